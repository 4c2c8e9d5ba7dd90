"""Observation of a run: metrics, trackers, hooks of plugins, progress."""
