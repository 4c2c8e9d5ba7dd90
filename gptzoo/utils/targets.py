"""The target of a token that is not predicted."""

IGNORED_TARGET = -100
"""A target that counts neither in the loss nor in a metric, as in torch's `cross_entropy`."""
