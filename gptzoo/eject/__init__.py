"""Ejecting: the assembled variant as one readable PyTorch file that does not need gptzoo."""
