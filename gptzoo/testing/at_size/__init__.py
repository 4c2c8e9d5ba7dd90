"""The search beyond toy sizes: cases of many sizes and option values, and the smallest case that fails."""
