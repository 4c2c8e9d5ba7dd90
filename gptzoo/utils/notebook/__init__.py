"""The link from objects to their HTML in notebooks."""
