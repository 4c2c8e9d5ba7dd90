"""CUDA graphs of single-token decode steps: captured once per batch size, then replayed by one call."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from gptzoo.model.architecture import Architecture
from gptzoo.sampling.state_rows import States, clone_states

if TYPE_CHECKING:
    from torch.cuda import _POOL_HANDLE

_N_WARMUP_STEPS = 2  # compilation, algorithm selection and workspace allocation cannot be captured


class CapturedStep(NamedTuple):
    """A decode step of a fixed batch size. It reads `tokens` and `positions` (B, 1) and writes `logits` (B, 1, V)."""

    tokens: Tensor
    positions: Tensor
    logits: Tensor
    replay: Callable[[], None]
    pool: _POOL_HANDLE  # handle of the memory that captured steps share, because no two are replayed at once


class CudaGraphRunner:
    """Single-token decode steps of a model as CUDA graphs.

    A graph holds addresses, so all calls with one batch size must pass the same state tensors. A model that needs a
    device synchronisation in the middle of a step cannot be captured: it is called instead, and a warning says so. The
    same holds for a batch size for whose capture the memory is too small.
    """

    def __init__(self, model: Architecture):
        self._model = model
        self._captured: dict[int, CapturedStep] = {}  # by batch size
        self._too_large: set[int] = set()  # batch sizes
        self._can_capture = True

    @staticmethod
    def batch_size(n_rows: int, n_slots: int) -> int:
        """Return the batch size for `n_rows` of `n_slots` rows: the next power of two, or all rows.

        An engine that empties from 64 rows to one would otherwise capture 64 graphs.
        """
        return min(1 << (n_rows - 1).bit_length(), n_slots)

    def __call__(self, tokens: Tensor, positions: Tensor, states: States) -> Tensor:
        """Return logits (B, 1, V) for tokens (B, 1) at positions (B|1, 1)."""
        batch_size = len(tokens)
        positions = positions.expand(batch_size, 1)
        if self._can_capture and batch_size not in self._captured and batch_size not in self._too_large:
            self._capture(tokens, positions, states)
        if batch_size not in self._captured:
            logits: Tensor = self._model(tokens, positions=positions, states=states)[0]
            return logits
        step = self._captured[batch_size]
        step.tokens.copy_(tokens)
        step.positions.copy_(positions)
        step.replay()
        return step.logits.clone()  # the next replay overwrites it

    def _capture(self, tokens: Tensor, positions: Tensor, states: States) -> None:
        """Capture the steps of a batch size, or warn and record that it cannot be done."""
        batch_size = len(tokens)
        pool = next((step.pool for step in self._captured.values()), None)
        try:
            self._captured[batch_size] = capture(self._model, tokens, positions, states, pool)
        except torch.OutOfMemoryError:
            self._too_large.add(batch_size)
            message = f"decode steps of {batch_size} rows are not captured as CUDA graphs, because memory is too small"
            warnings.warn(f"{message}. Use fewer slots or a shorter maximum length.", stacklevel=3)
        except RuntimeError as error:
            self._can_capture = False
            reason = str(error).strip().partition("\n")[0]
            warnings.warn(f"decode steps cannot be captured as CUDA graphs: {reason}", stacklevel=3)


def capture(
    model: Architecture,
    tokens: Tensor,
    positions: Tensor,
    states: States,
    pool: _POOL_HANDLE | None,
) -> CapturedStep:
    """Capture a decode step in a CUDA graph without running it: the states do not change.

    Raises RuntimeError if the step cannot be captured.
    """
    tokens, positions = tokens.clone(), positions.clone()
    current_stream = torch.cuda.current_stream(tokens.device)
    warmup_stream = torch.cuda.Stream(tokens.device)
    warmup_stream.wait_stream(current_stream)
    with torch.cuda.stream(warmup_stream):
        scratch_states: Any = clone_states(states)
        for step in range(_N_WARMUP_STEPS):
            # A capture that fails leaves torch's allocator in a state of capture. So the last step is tried before.
            with _forbid_synchronisation() if step == _N_WARMUP_STEPS - 1 else contextlib.nullcontext():
                model(tokens, positions=positions, states=scratch_states)
        del scratch_states
    current_stream.wait_stream(warmup_stream)
    graph = torch.cuda.CUDAGraph()
    # The outer context restores the stream if the capture fails.
    with torch.cuda.stream(current_stream), torch.cuda.graph(graph, pool=pool):
        logits, _ = model(tokens, positions=positions, states=states)
    return CapturedStep(tokens, positions, logits, graph.replay, graph.pool())


@contextlib.contextmanager
def _forbid_synchronisation() -> Iterator[None]:
    """Raise RuntimeError for an operation in the block for which the host waits for the GPU."""
    before = torch.cuda.get_sync_debug_mode()
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode(before)
