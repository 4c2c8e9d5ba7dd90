"""Generation of the committed files: signatures, the list of optimizers that are left out, and the page of both.

This package imports the libraries. Nothing outside of it imports this package.
"""
