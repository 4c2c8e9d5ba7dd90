from __future__ import annotations

from typing import Any

import pytest
import torch
from support import loud, small
from torch import Tensor

import gptzoo
from gptzoo.sampling.compile import cuda_graphs as graphs
from gptzoo.sampling.compile.cuda_graphs import Recorded, StepGraphs
from gptzoo.sampling.engine.kv_cache_manager import KVCacheManager
from gptzoo.sampling.weights.prepare import prepare_for_inference

GREEDY = gptzoo.SamplingSpec.model_validate({"max_new_tokens": 9, "processors": [{"type": "temperature", "value": 0}]})
PROMPTS = [[1, 2, 3], [4], [5, 6]]


def model(device: str = "cpu", **fields: Any) -> Any:
    return loud(gptzoo.build(small(**{"positional": "rope", **fields}), seed=3)).eval().to(device)


def recorded_on_cpu(model: Any, tokens: Tensor, positions: Tensor, states: Any, pool: Any) -> Recorded:
    """What a recording does, without CUDA: it reads and writes fixed memory, and runs when it is replayed."""
    tokens, positions = tokens.clone(), positions.clone()
    logits = torch.full((len(tokens), 1, model.spec.vocab_size), torch.nan)

    def replay() -> None:
        logits.copy_(model(tokens, positions=positions, states=states)[0])

    return Recorded(tokens, positions, logits, replay, pool)


def test_a_replayed_step_reads_what_it_is_given_now_and_its_logits_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    monkeypatch.setattr(graphs, "record", lambda *given: made.append(len(given[1])) or recorded_on_cpu(*given))
    plain = model()
    readers = KVCacheManager(plain, 3, 16), KVCacheManager(plain, 3, 16)
    readers[1]._graphs = StepGraphs(plain)
    logits: list[list[Tensor]] = [[], []]
    with torch.inference_mode():
        for reader, seen in zip(readers, logits, strict=True):
            for row, prompt in enumerate(map(tuple, PROMPTS)):
                reader.prefill([prompt])
                reader.seat(row, prompt)
            for tokens in ([[1], [2], [3]], [[4], [5], [6]], [[7], [8]], [[9, 10], [1, 2]], [[3], [4], [5]]):
                seen.append(reader.read(tokens))
    for one, two in zip(*logits, strict=True):
        torch.testing.assert_close(one, two, atol=1e-5, rtol=1e-5)
    assert made == [3, 2]


def test_a_model_that_cannot_be_recorded_is_called(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*given: Any) -> Recorded:
        raise RuntimeError("operation not permitted when stream is capturing\nmore")

    monkeypatch.setattr(graphs, "record", refuse)
    plain = model()
    tokens, positions, states = torch.tensor([[1], [2]]), torch.tensor([[0]]), plain.new_states(2, 4)
    step = StepGraphs(plain)
    with (
        torch.inference_mode(),
        pytest.warns(UserWarning, match="not recorded as CUDA graphs: operation not permitted"),
    ):
        logits = step(tokens, positions, states)
    with torch.inference_mode():
        again = step(tokens, positions, plain.new_states(2, 4))
    torch.testing.assert_close(logits, again)


@pytest.mark.cuda
@pytest.mark.parametrize("positional", list(gptzoo.registered("positional")))
@pytest.mark.parametrize("attention", list(gptzoo.registered("attention")))
def test_recorded_steps_write_what_others_write(attention: str, positional: str) -> None:
    if not torch.cuda.is_available():
        pytest.skip("torch sees no CUDA device here")
    fields = {"attention": attention, "positional": positional}
    plain = prepare_for_inference(model("cuda", **fields))
    compiled = prepare_for_inference(model("cuda", **fields), compile=True)
    assert gptzoo.generate(compiled, PROMPTS, GREEDY) == gptzoo.generate(plain, PROMPTS, GREEDY)


@pytest.mark.cuda
def test_recording_leaves_the_states_as_they_are() -> None:
    if not torch.cuda.is_available():
        pytest.skip("torch sees no CUDA device here")
    plain = model("cuda")
    with torch.inference_mode():
        states = plain.new_states(2, 8)
        tokens, positions = torch.tensor([[1], [2]], device="cuda"), torch.tensor([[0], [0]], device="cuda")
        graphs.record(plain, tokens, positions, states, None)
    assert all((state["position"] == -1).all() for layer in states for state in layer.values())
