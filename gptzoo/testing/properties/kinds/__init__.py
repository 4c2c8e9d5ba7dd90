"""Properties of kinds that are not modules of a model."""
