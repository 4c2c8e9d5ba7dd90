"""The design of an ablation: axes, grid points, variants and their costs."""
