"""Steps of decoding as CUDA graphs: recorded once for each number of rows, then started by one call."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from gptzoo.model.architecture import Architecture
from gptzoo.sampling.engine.state_rows import States, copied

_WARM = 2  # steps before one is recorded: compiling, choosing algorithms and making workspaces cannot be


class Recorded(NamedTuple):
    """A step of so many rows. It reads `tokens` and `positions`, both (B, 1), and writes `logits`, (B, 1, V)."""

    tokens: Tensor
    positions: Tensor
    logits: Tensor
    replay: Callable[[], None]
    pool: Any  # memory that recordings may share, as no two are replayed at once


class StepGraphs:
    """A model's step of one token a row that goes on from a cache, on CUDA.

    A recording holds addresses, so for one number of rows the states must be the same tensors in each call. A model
    that asks the device something in the middle of a step cannot be recorded: it is called, and a warning says so.
    """

    def __init__(self, model: Architecture):
        self._model = model
        self._recorded: dict[int, Recorded] = {}
        self._can = True

    def __call__(self, tokens: Tensor, positions: Tensor, states: States) -> Tensor:
        """Tokens (B, 1), positions (B|1, 1) -> logits (B, 1, V)."""
        n_rows = len(tokens)
        positions = positions.expand(n_rows, 1)
        if self._can and n_rows not in self._recorded:
            pool = next((step.pool for step in self._recorded.values()), None)
            try:
                self._recorded[n_rows] = record(self._model, tokens, positions, states, pool)
            except RuntimeError as error:
                self._can = False
                reason = str(error).strip().partition("\n")[0]
                warnings.warn(f"steps are not recorded as CUDA graphs: {reason}", stacklevel=2)
        if n_rows not in self._recorded:
            logits: Tensor = self._model(tokens, positions=positions, states=states)[0]
            return logits
        step = self._recorded[n_rows]
        step.tokens.copy_(tokens)
        step.positions.copy_(positions)
        step.replay()
        return step.logits.clone()  # the next step writes over it


def record(model: Architecture, tokens: Tensor, positions: Tensor, states: States, pool: Any) -> Recorded:
    """Record a step, which is not taken by that: the states stay as they are. Raises RuntimeError where CUDA does."""
    tokens, positions = tokens.clone(), positions.clone()
    here = torch.cuda.current_stream(tokens.device)
    aside = torch.cuda.Stream(tokens.device)
    aside.wait_stream(here)
    with torch.cuda.stream(aside):
        spare: Any = copied(states)
        for _ in range(_WARM):
            model(tokens, positions=positions, states=spare)
    here.wait_stream(aside)
    graph = torch.cuda.CUDAGraph()
    # The outer context brings the stream back where a recording fails.
    with torch.cuda.stream(here), torch.cuda.graph(graph, pool=pool):
        logits, _ = model(tokens, positions=positions, states=states)
    return Recorded(tokens, positions, logits, graph.replay, graph.pool())
