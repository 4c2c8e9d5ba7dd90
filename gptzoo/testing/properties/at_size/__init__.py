"""Properties of parts of a model, checked beyond toy sizes."""
