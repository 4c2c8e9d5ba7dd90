"""One training step: micro-batches, forward, backward, gradient accumulation, optimizer step."""
