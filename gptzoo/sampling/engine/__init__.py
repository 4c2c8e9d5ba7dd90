"""The decoding engine: continuous batching, KV cache, prefill, decode, speculation and stopping criteria."""
