"""What the tests of logits processors share: logits and rows to draw, and distributions in NumPy."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from hypothesis import strategies as st

from gptzoo import TokenSequence
from gptzoo.reference import Reference

NEVER = -np.inf


def processor(type: str, tokenizer: Any = None, /, **options: Any) -> Any:
    """A logits processor from its JSON."""
    return Reference("logits_processor").validate({"type": type, **options}).build(tokenizer)


@st.composite
def batches(draw: st.DrawFn) -> tuple[np.ndarray, list[TokenSequence]]:
    """Logits (B, V) float32 with ties and with tokens that are excluded already, and the rows that they are of."""
    n_rows, n_tokens = draw(st.integers(1, 4)), draw(st.integers(2, 25))
    value = draw(st.sampled_from([st.floats(-20, 20, width=32), st.integers(-2, 2)])) | st.just(NEVER)
    some = st.lists(value, min_size=n_tokens, max_size=n_tokens).filter(lambda row: max(row) > NEVER)
    logits = draw(st.lists(some, min_size=n_rows, max_size=n_rows))
    rows = []
    for _ in range(n_rows):
        tokens = draw(st.lists(st.integers(0, n_tokens - 1), min_size=1, max_size=12))
        rows.append(TokenSequence(tokens, draw(st.integers(0, len(tokens)))))
    return np.array(logits, dtype=np.float32), rows


def processed(process: Any, logits: np.ndarray, rows: list[TokenSequence]) -> np.ndarray:
    """Logits (B, V) float64 after a processor."""
    return process(torch.from_numpy(logits), rows).double().numpy()


def softmax(logits: np.ndarray) -> np.ndarray:
    weights = np.exp(np.float64(logits) - np.float64(logits).max(axis=-1, keepdims=True))
    return weights / weights.sum(axis=-1, keepdims=True)


def best_first(scores: np.ndarray) -> list[int]:
    """The tokens of one row, of equal ones the lower id first."""
    return sorted(range(len(scores)), key=lambda token: (-scores[token], token))


def only(logits: np.ndarray, kept: Any) -> np.ndarray:
    """One row of logits with all others excluded."""
    left = np.full(len(logits), NEVER)
    left[list(kept)] = logits[list(kept)]
    return left
