"""Ablations: variants enumerated, run anywhere, compared with error bars."""
