"""Selection of variants: successive halving and learning-rate grids."""
