"""Whole packages to start from: one template for each kind, and what every package has around its component."""
