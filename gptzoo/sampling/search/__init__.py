"""Search-based decoding: beam search and contrastive search."""
