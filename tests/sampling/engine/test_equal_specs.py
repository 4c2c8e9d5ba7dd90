"""Requests with equal processors in different specs, such as those of a server, are processed together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from support import small, with_large_weights
from torch import Tensor

import gptzoo
from gptzoo.sampling.engine.engine import Engine
from gptzoo.sampling.processors.truncation import TopK
from gptzoo.sampling.request import Request

PROMPTS = [[1], [2], [3], [4]]


def spec(k: int = 5, **fields: Any) -> gptzoo.SamplingSpec:
    options = {"max_new_tokens": 4, "processors": [{"type": "top_k", "k": k}], **fields}
    return gptzoo.SamplingSpec.model_validate(options)


def run(specs: Sequence[gptzoo.SamplingSpec]) -> list[list[int | None]]:
    engine = Engine(with_large_weights(gptzoo.build(small(), seed=1)), n_slots=4)
    for index, (prompt, one) in enumerate(zip(PROMPTS, specs, strict=True)):
        engine.submit(Request(prompt, one, id=index))
    tokens: list[list[int | None]] = [[] for _ in specs]
    while engine.busy:
        for event in engine.step():
            tokens[event.request_id].append(event.token)
    return tokens


@pytest.fixture
def batch_sizes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """A list with the number of rows of each call of `top_k`."""
    sizes: list[int] = []
    original = TopK.__call__

    def call(self: TopK, logits: Tensor, sequences: Any) -> Tensor:
        sizes.append(len(logits))
        return original(self, logits, sequences)

    monkeypatch.setattr(TopK, "__call__", call)
    return sizes


def test_equal_processors_are_called_once_for_all_requests(batch_sizes: list[int]) -> None:
    tokens = run([spec(seed=seed, max_new_tokens=3 + seed % 2) for seed in range(4)])
    assert batch_sizes == [4, 4, 4, 2]
    for seed, new in enumerate(tokens):
        alone = gptzoo.generate(
            with_large_weights(gptzoo.build(small(), seed=1)),
            [PROMPTS[seed]],
            spec(seed=seed, max_new_tokens=3 + seed % 2),
        )
        assert [new] == alone


@pytest.mark.parametrize("change", [{"k": 6}, {"min_new_tokens": 2}, {"stop_tokens": [7], "min_new_tokens": 1}])
def test_requests_that_differ_in_their_logits_are_processed_apart(
    change: dict[str, Any], batch_sizes: list[int]
) -> None:
    run([spec(), spec(seed=2), spec(**change), spec(**change)])
    assert batch_sizes[:2] == [2, 2]
