"""Scaling laws of variants: fits of the loss over training compute, and the compute that a variant saves."""
