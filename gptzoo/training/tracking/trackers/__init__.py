"""The trackers that ship: each imports its library when a run uses it."""
