"""Helpers for tests of logits processors: random logits and sequences, and distributions in NumPy."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from hypothesis import strategies as st

from gptzoo import TokenSequence
from gptzoo.reference import Reference

NEVER = -np.inf


def processor(type: str, tokenizer: Any = None, /, **options: Any) -> Any:
    """Build a logits processor from its JSON."""
    return Reference("logits_processor").validate({"type": type, **options}).build(tokenizer)


@st.composite
def batches(draw: st.DrawFn) -> tuple[np.ndarray, list[TokenSequence]]:
    """Logits (B, V) float32 with ties and excluded tokens, and the sequences that they belong to."""
    n_rows, n_tokens = draw(st.integers(1, 4)), draw(st.integers(2, 25))
    value = draw(st.sampled_from([st.floats(-20, 20, width=32), st.integers(-2, 2)])) | st.just(NEVER)
    some = st.lists(value, min_size=n_tokens, max_size=n_tokens).filter(lambda row: max(row) > NEVER)
    logits = draw(st.lists(some, min_size=n_rows, max_size=n_rows))
    sequences = []
    for _ in range(n_rows):
        tokens = draw(st.lists(st.integers(0, n_tokens - 1), min_size=1, max_size=12))
        sequences.append(TokenSequence(tokens, draw(st.integers(0, len(tokens)))))
    return np.array(logits, dtype=np.float32), sequences


def processed(process: Any, logits: np.ndarray, sequences: list[TokenSequence]) -> np.ndarray:
    """Apply a processor and return logits (B, V) float64."""
    return process(torch.from_numpy(logits), sequences).double().numpy()


def softmax(logits: np.ndarray) -> np.ndarray:
    weights = np.exp(np.float64(logits) - np.float64(logits).max(axis=-1, keepdims=True))
    return weights / weights.sum(axis=-1, keepdims=True)


def best_first(scores: np.ndarray) -> list[int]:
    """Return the tokens of one row by descending score; ties by ascending id."""
    return sorted(range(len(scores)), key=lambda token: (-scores[token], token))


def only(logits: np.ndarray, kept: Any) -> np.ndarray:
    """Return one row of logits with all tokens but `kept` excluded."""
    masked = np.full(len(logits), NEVER)
    masked[list(kept)] = logits[list(kept)]
    return masked
