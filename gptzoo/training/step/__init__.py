"""One training step: micro-batches, gradient accumulation, clipping, optimizer step."""
