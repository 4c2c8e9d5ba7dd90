"""Properties of training."""
