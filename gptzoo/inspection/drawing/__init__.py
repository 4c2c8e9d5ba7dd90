"""Drawings of models as SVG images and pages."""
