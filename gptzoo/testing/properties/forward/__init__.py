"""Properties of a forward pass."""
