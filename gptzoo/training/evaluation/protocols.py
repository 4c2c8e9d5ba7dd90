"""The protocols of an evaluation: which tokens are predicted, and from how much context."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from gptzoo.checkpoint.model_folder import LoadedModel
from gptzoo.data.batching.batching import Batch
from gptzoo.data.batching.windows import slice_windows
from gptzoo.data.token_store import TokenStore
from gptzoo.data.tokenizers.tokenizer import Tokenizer
from gptzoo.errors import DataError, InputError
from gptzoo.utils.seeds import derive_seed
from gptzoo.utils.targets import IGNORED_TARGET


@dataclass(frozen=True)
class RandomBatches:
    """nanoGPT's `estimate_loss`: the mean over random windows. Some tokens are predicted twice, most of them never."""

    batches: int = 200
    batch_size: int = 12
    seed: int = 1

    name = "random-batches"


@dataclass(frozen=True)
class FullPass:
    """One prediction of every token of the split but the first. It depends on no batch size and no seed.

    The model reads the windows of the run's batching, of context_length tokens.
    """

    name = "full"


@dataclass(frozen=True)
class SlidingWindows:
    """One prediction of every token of the split but the first, in windows that overlap.

    The model reads `window` tokens at a time, and each window starts `stride` tokens after the one before. Only tokens
    that no earlier window predicted count. So every token after the first window is predicted from more than
    `window - stride` tokens of context. The recipe of `transformers` for the perplexity of fixed-length models with
    `max_length` M is a window of M - 1 tokens.
    """

    window: int | None = None  # tokens; None: the model's context_length
    stride: int | None = None  # tokens, from 1 to `window`; None: `window`, so that windows do not overlap

    name = "sliding"


Protocol = FullPass | RandomBatches | SlidingWindows


def resolve_windows(
    protocol: Protocol, loaded: LoadedModel, store: TokenStore, enabled_inputs: frozenset[str]
) -> tuple[int, int]:
    """Return the length of the windows and their stride. Raises InputError for windows that the model cannot read."""
    length = loaded.spec.context_length
    if not isinstance(protocol, SlidingWindows):
        length = length if store.samples is None else store.samples.corpus.sample_length
        return length, length
    window = length if protocol.window is None else protocol.window
    stride = window if protocol.stride is None else protocol.stride
    if window < 1:
        raise InputError(f"window: expected at least 1 token, got {window}")
    if not 1 <= stride <= window:
        raise InputError(
            f"stride: expected 1 to {window} tokens, the length of the window, got {stride}. With a larger "
            "stride, some tokens would not be predicted"
        )
    longest = loaded.model.max_length
    if longest is not None and window > longest:
        raise InputError(f"window: {window} tokens are too long: this model has {longest} positions")
    if enabled_inputs:
        raise InputError(
            f"window and stride: the windows are cut from the text as one stream, but this batching provides "
            f"{', '.join(sorted(enabled_inputs))}. Choose another batching, such as windows"
        )
    _check_plain_text(protocol.name, loaded, store)
    return window, stride


def sliding_windows(n_tokens: int, window: int, stride: int) -> Iterator[tuple[int, int, int]]:
    """Yield (start, size, n_new) of windows: their inputs, and how many of their last targets are new."""
    n_inputs = n_tokens - 1  # the last token is only a target
    start, predicted = 0, 0
    while predicted < n_inputs:
        size = min(window, n_inputs - start)
        yield start, size, start + size - predicted
        predicted = start + size
        start += stride


def sliding_batches(text: np.ndarray, window: int, stride: int, max_tokens: int) -> Iterator[Batch]:
    """Yield the windows over a text in batches of up to `max_tokens` tokens, or one row."""
    rows: list[tuple[int, int, int]] = []
    batch_size = max(1, max_tokens // window)
    for row in sliding_windows(len(text), window, stride):
        if rows and (len(rows) == batch_size or row[1] != rows[0][1]):
            yield _sliding_batch(text, rows)
            rows = []
        rows.append(row)
    if rows:
        yield _sliding_batch(text, rows)


def _sliding_batch(text: np.ndarray, rows: list[tuple[int, int, int]]) -> Batch:
    tokens, targets = slice_windows(text, np.array([start for start, _, _ in rows]), rows[0][1])
    n_new = np.array([new for _, _, new in rows])
    columns = np.arange(tokens.shape[1])
    is_new = columns[None] >= tokens.shape[1] - n_new[:, None]
    return {"tokens": tokens, "targets": np.where(is_new, targets, IGNORED_TARGET)}


def random_batches(
    protocol: RandomBatches, loaded: LoadedModel, store: TokenStore, tokenizer: Tokenizer
) -> tuple[Iterator[Batch], int]:
    """Return the batches, and the bytes of the documents that their targets encode."""
    _check_plain_text(protocol.name, loaded, store)
    text, length = store.val, loaded.spec.context_length
    if len(text) <= length:
        raise DataError(
            f"random-batches: the split has {len(text)} tokens, too few for a window of {length}. Use the full pass"
        )
    rng = np.random.default_rng(derive_seed(protocol.seed, protocol.name))
    starts = rng.integers(0, len(text) - length, (protocol.batches, protocol.batch_size))
    begins, ends = store.spans["val"].T
    n_bytes = 0
    for begin in (starts.flatten() + 1).tolist():
        first, last = np.searchsorted(ends, begin, side="right"), np.searchsorted(begins, begin + length)
        for document in range(int(first), int(last)):  # separators between documents are not text
            ids = text[max(begin, begins[document]) : min(begin + length, ends[document])]
            n_bytes += len(tokenizer.decode_bytes(ids.tolist()))

    def batches() -> Iterator[Batch]:
        for batch_starts in starts:
            tokens, targets = slice_windows(text, batch_starts, length)
            yield {"tokens": tokens, "targets": targets}

    return batches(), n_bytes


def _check_plain_text(protocol: str, loaded: LoadedModel, store: TokenStore) -> None:
    if store.samples is not None:
        raise InputError(
            f"{protocol}: supports plain text only, and corpus {store.samples.corpus.config.type!r} generates samples. "
            "Use the full pass"
        )
    if loaded.model.required_inputs:
        raise InputError(
            f"{protocol}: supports plain text only, and architecture {loaded.spec.architecture.type!r} requires "
            f"{', '.join(sorted(loaded.model.required_inputs))}. Use the full pass"
        )
