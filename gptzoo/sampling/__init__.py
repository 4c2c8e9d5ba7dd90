"""Text generation: logits processors, the decoding engine, and search."""

DEFAULT_TEMPERATURE = 0.8  # here, because the command line names it in its help without importing torch
