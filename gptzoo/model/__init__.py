"""The model: the decoder and its blocks, initial values, the loss, and the costs of a model."""
