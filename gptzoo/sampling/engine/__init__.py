"""The sampling engine: continuous batching, KV cache, prefill, decode, speculation, stopping criteria."""
