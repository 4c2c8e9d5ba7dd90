"""Text generation: logits processors, the decoding engine, and search."""
