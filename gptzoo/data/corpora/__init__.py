"""Corpora: sources of training text."""
