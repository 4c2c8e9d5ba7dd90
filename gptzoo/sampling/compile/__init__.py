"""Compiled decode steps: export, ahead-of-time compilation and CUDA graphs."""
