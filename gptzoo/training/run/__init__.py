"""The folder of a run and its files: metrics, checkpoints, train state, status."""
