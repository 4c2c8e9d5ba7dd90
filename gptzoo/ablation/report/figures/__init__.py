"""Figures of reports: their data, and their static forms as PNG and SVG."""
