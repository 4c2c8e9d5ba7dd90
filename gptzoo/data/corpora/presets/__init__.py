"""Presets: well-known datasets with their repository, revision, text column and split."""
