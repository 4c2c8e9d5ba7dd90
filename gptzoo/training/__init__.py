"""Training: the loop, one optimizer step, optimizers, parallelism, run folders, evaluation and tracking."""
