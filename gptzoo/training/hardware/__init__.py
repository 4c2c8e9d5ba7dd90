"""Devices: selection, precision and peak FLOP/s."""
