"""Batching: sample order, windows, packing and token dropout."""
