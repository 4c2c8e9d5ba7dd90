"""Profiles of training steps: time, FLOPs and bytes by component."""
