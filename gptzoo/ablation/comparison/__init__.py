"""The comparison of two runs: an ablation with one axis of two choices, with one verdict as its result."""
