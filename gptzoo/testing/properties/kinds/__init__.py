"""Properties of the kinds that are not part of a model, such as tokenizers and optimizers."""
