"""Devices: selection, precision, free memory and peak FLOP/s."""
