"""CUDA graphs of decode steps. Without a GPU, a stand-in replaces the capture."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from support import small, with_large_weights
from torch import Tensor

import gptzoo
from gptzoo.sampling.compile import cuda_graphs
from gptzoo.sampling.compile.cuda_graphs import CapturedStep, CudaGraphRunner
from gptzoo.sampling.engine.kv_cache_manager import KVCacheManager
from gptzoo.sampling.inference_weights import prepare_for_inference

GREEDY = gptzoo.SamplingSpec.model_validate({"max_new_tokens": 9, "processors": [{"type": "temperature", "value": 0}]})
PROMPTS = [[1, 2, 3], [4], [5, 6]]


def build_model(device: str = "cpu", **fields: Any) -> Any:
    return with_large_weights(gptzoo.build(small(**{"positional": "rope", **fields}), seed=3)).eval().to(device)


def capture_on_cpu(model: Any, tokens: Tensor, positions: Tensor, states: Any, pool: Any) -> CapturedStep:
    """Stand in for a capture without CUDA: the step reads and writes fixed memory, and runs when it is replayed."""
    tokens, positions = tokens.clone(), positions.clone()
    logits = torch.full((len(tokens), 1, model.spec.vocab_size), torch.nan)

    def replay() -> None:
        logits.copy_(model(tokens, positions=positions, states=states)[0])

    return CapturedStep(tokens, positions, logits, replay, pool)


def test_a_replayed_step_reads_its_current_inputs_and_its_logits_are_copied(monkeypatch: pytest.MonkeyPatch) -> None:
    batch_sizes = []

    def capture(*args: Any) -> CapturedStep:
        batch_sizes.append(len(args[1]))
        return capture_on_cpu(*args)

    monkeypatch.setattr(cuda_graphs, "capture", capture)
    model = build_model()
    caches = KVCacheManager(model, 3, 16), KVCacheManager(model, 3, 16)
    caches[1]._cuda_graphs = CudaGraphRunner(model)
    logits: list[list[Tensor]] = [[], []]
    with torch.inference_mode():
        for cache, results in zip(caches, logits, strict=True):
            for slot, prompt in enumerate(map(tuple, PROMPTS)):
                cache.prefill([prompt])
                cache.assign_slot(slot, prompt)
            for tokens in ([[1], [2], [3]], [[4], [5], [6]], [[7], [8]], [[9, 10], [1, 2]], [[3], [4], [5]]):
                results.append(cache.decode(tokens))
    for one, two in zip(*logits, strict=True):
        torch.testing.assert_close(one, two, atol=1e-5, rtol=1e-5)
    assert batch_sizes == [3, 2]


def test_a_model_that_cannot_be_captured_is_called_instead(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: Any) -> CapturedStep:
        raise RuntimeError("operation not permitted when stream is capturing\nmore")

    monkeypatch.setattr(cuda_graphs, "capture", fail)
    model = build_model()
    tokens, positions, states = torch.tensor([[1], [2]]), torch.tensor([[0]]), model.new_states(2, 4)
    step = CudaGraphRunner(model)
    with (
        torch.inference_mode(),
        pytest.warns(UserWarning, match="cannot be captured as CUDA graphs: operation not permitted"),
    ):
        logits = step(tokens, positions, states)
    with torch.inference_mode():
        again = step(tokens, positions, model.new_states(2, 4))
    torch.testing.assert_close(logits, again)


@pytest.mark.cuda
@pytest.mark.parametrize("positional", list(gptzoo.registered("positional")))
@pytest.mark.parametrize("attention", list(gptzoo.registered("attention")))
def test_captured_steps_generate_the_same_tokens(attention: str, positional: str) -> None:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    fields = {"attention": attention, "positional": positional}
    plain = prepare_for_inference(build_model("cuda", **fields))
    compiled = prepare_for_inference(build_model("cuda", **fields), compile=True)
    assert gptzoo.generate(compiled, PROMPTS, GREEDY) == gptzoo.generate(plain, PROMPTS, GREEDY)


@pytest.mark.cuda
def test_capturing_does_not_change_the_states() -> None:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    model = build_model("cuda")
    with torch.inference_mode():
        states = model.new_states(2, 8)
        tokens, positions = torch.tensor([[1], [2]], device="cuda"), torch.tensor([[0], [0]], device="cuda")
        cuda_graphs.capture(model, tokens, positions, states, None)
    assert all((state["position"] == -1).all() for layer in states for state in layer.values())
