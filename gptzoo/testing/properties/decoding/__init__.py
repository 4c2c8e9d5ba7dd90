"""Properties of cached decoding."""
