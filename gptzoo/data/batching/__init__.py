"""Batching: the order of samples, windows, packing and token dropout."""
