"""The passes that reduce the code of a model to what one variant needs."""
