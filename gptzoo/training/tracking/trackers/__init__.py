"""The built-in trackers. Each imports its library only when a run uses it."""
