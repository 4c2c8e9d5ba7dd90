"""Corpora: sources of text, with a train/validation split."""
