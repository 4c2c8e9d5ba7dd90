"""Trackers, hooks of plugins, progress and metrics of a running training."""
