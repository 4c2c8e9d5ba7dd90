"""Data: corpora, tokenizers, tokens on disk, and batching."""
