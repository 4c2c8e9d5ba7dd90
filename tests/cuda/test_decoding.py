"""Generation on CUDA: the same tokens as on the CPU, and one wait of the host per decode step."""

from __future__ import annotations

import random
import warnings
from collections import Counter
from typing import Any

import pytest
import torch
from cuda.model_check import check_waits, documented_waits
from host_waits import recorded_host_waits
from support import small, types_with_defaults, with_large_weights

import gptzoo
from gptzoo.errors import SpecError
from gptzoo.sampling.engine.engine import Engine
from gptzoo.sampling.inference_weights import prepare_for_inference
from gptzoo.sampling.request import Request
from gptzoo.sampling.score import score
from gptzoo.sampling.search.beam import beam_search
from gptzoo.sampling.search.contrastive import contrastive_search

pytestmark = pytest.mark.cuda

WAITS_PER_TOKEN = documented_waits("token of all running requests")
N_QUICK = 6
PROMPTS = [[1, 2, 3], [4], [5, 6]]
PROCESSORS: dict[str, list[dict[str, Any]]] = {
    "none": [],
    "greedy": [{"type": "temperature", "value": 0}],
    "top-k": [{"type": "temperature", "value": 0.8}, {"type": "top_k", "k": 5}],
    "top-p": [{"type": "top_p", "p": 0.7}, {"type": "min_p", "p": 0.01}],
    "typical": [{"type": "typical", "p": 0.7}],
    "penalties": [
        {"type": "repetition_penalty"},
        {"type": "presence_penalty"},
        {"type": "frequency_penalty"},
        {"type": "no_repeat_ngram", "size": 2},
        {"type": "logit_bias", "biases": {"3": 2.0}},
    ],
    "constraints": [{"type": "forced_tokens", "ids": [2, 3]}, {"type": "banned_tokens", "ids": [1]}],
}


def build_model(**fields: Any) -> Any:
    return with_large_weights(gptzoo.build(small(**{"positional": "rope", **fields}), seed=3)).eval()


def spec_of(processors: list[dict[str, Any]], **fields: Any) -> gptzoo.SamplingSpec:
    return gptzoo.SamplingSpec.model_validate({"max_new_tokens": 8, "processors": processors, **fields})


GREEDY = spec_of(PROCESSORS["greedy"])


@pytest.mark.parametrize("processors", PROCESSORS.values(), ids=PROCESSORS)
def test_the_tokens_are_those_of_the_cpu(processors: list[dict[str, Any]]) -> None:
    spec = spec_of(processors, stop_tokens=[9], min_new_tokens=4)
    expected = gptzoo.generate(build_model(), PROMPTS, spec)
    assert gptzoo.generate(build_model().cuda(), PROMPTS, spec) == expected


def test_log_probabilities_are_those_of_the_cpu() -> None:
    events = []
    for model in (build_model(), build_model().cuda()):
        engine = Engine(model, n_slots=3)
        for n_top, prompt in enumerate(PROMPTS):
            engine.submit(Request(prompt, spec_of(PROCESSORS["top-k"]), id=n_top, n_top_logprobs=n_top))
        events.append([event for _ in range(8) for event in engine.step()])
    for event, expected in zip(events[1], events[0], strict=True):
        assert (event.token, event.request_id, list(event.top_logprobs)) == (
            expected.token,
            expected.request_id,
            list(expected.top_logprobs),
        )
        assert len(event.top_logprobs) == event.request_id
        assert event.log_probability == pytest.approx(expected.log_probability, abs=1e-4)
        assert list(event.top_logprobs.values()) == pytest.approx(list(expected.top_logprobs.values()), abs=1e-4)


def test_other_strategies_give_what_they_give_on_the_cpu() -> None:
    results = []
    for device in ("cpu", "cuda"):
        model, draft = build_model().to(device), build_model(n_layers=1).to(device)
        drafted = gptzoo.generate(model, PROMPTS, spec_of(PROCESSORS["top-k"]), draft=draft, n_draft_tokens=3)
        beams = [[event.token for event in beam.events] for beam in beam_search(model, PROMPTS[0], GREEDY, n_beams=3)]
        contrastive = [event.token for event in contrastive_search(model, PROMPTS[0], GREEDY)]
        results.append((drafted, beams, contrastive, score(model, PROMPTS)))
    assert results[0][:3] == results[1][:3]
    for row, expected in zip(results[1][3], results[0][3], strict=True):
        torch.testing.assert_close(row, expected, rtol=1e-4, atol=1e-4)


def models() -> list[Any]:
    """Return every valid pair of an attention and a positional. Those outside of a seeded sample are slow."""
    pairs = {}
    for attention in types_with_defaults("attention"):
        for positional in types_with_defaults("positional"):
            try:
                gptzoo.load_model_spec(small(attention=attention, positional=positional))
            except SpecError:
                continue
            pairs[f"{attention}-{positional}"] = {"attention": attention, "positional": positional}
    quick = set(random.Random(18).sample(sorted(pairs), min(N_QUICK, len(pairs))))
    return [
        pytest.param(fields, id=name, marks=[] if name in quick else pytest.mark.slow) for name, fields in pairs.items()
    ]


@pytest.mark.parametrize("fields", models())
def test_captured_steps_give_the_tokens_of_the_cpu(fields: dict[str, Any]) -> None:
    expected = gptzoo.generate(build_model(**fields), PROMPTS, GREEDY)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*are only captured")
        model = prepare_for_inference(build_model(**fields).cuda(), compile=True)
        warnings.filterwarnings("error", message=".*(cannot be|not) captured")
        assert gptzoo.generate(model, PROMPTS, GREEDY) == expected


@pytest.mark.parametrize("compile", [False, True])
@pytest.mark.parametrize("name", ["greedy", "top-k", "top-p", "typical", "penalties"])
def test_the_host_waits_once_for_the_tokens_of_all_requests(name: str, compile: bool) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = prepare_for_inference(build_model().cuda(), compile=compile)
    engine = Engine(model, n_slots=8)
    for index in range(8):  # a server makes a spec for each request, with a seed of its own
        engine.submit(Request([1 + index % 3] * (1 + index % 2), spec_of(PROCESSORS[name], seed=index)))
    for _ in range(3):
        engine.step()
    assert engine.n_running == 8
    with recorded_host_waits() as waits:
        engine.step()
    check_waits(waits, WAITS_PER_TOKEN)


def test_requests_with_other_processors_add_no_wait() -> None:
    engine = Engine(build_model().cuda(), n_slots=8)
    for index, processors in enumerate([*PROCESSORS.values()][:5]):
        engine.submit(Request([1 + index], spec_of(processors, seed=index)))
    for _ in range(2):
        engine.step()
    with recorded_host_waits() as waits:
        engine.step()
    check_waits(waits, WAITS_PER_TOKEN)


def test_an_engine_that_empties_captures_few_graphs(monkeypatch: pytest.MonkeyPatch) -> None:
    from gptzoo.sampling.compile import cuda_graphs

    captured: Counter[int] = Counter()
    original = cuda_graphs.capture

    def capture(model: Any, tokens: torch.Tensor, *rest: Any) -> Any:
        captured[len(tokens)] += 1
        return original(model, tokens, *rest)

    monkeypatch.setattr(cuda_graphs, "capture", capture)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = prepare_for_inference(build_model().cuda(), compile=True)
    prompts = [[1 + index] for index in range(11)]
    events: dict[int, list[int]] = {index: [] for index in range(11)}
    engine = Engine(model, n_slots=11)
    for index, prompt in enumerate(prompts):
        engine.submit(Request(prompt, spec_of(PROCESSORS["greedy"], max_new_tokens=2 + index), id=index))
    while engine.busy:
        for event in engine.step():
            events[event.request_id].append(event.token)
    assert captured == dict.fromkeys((1, 2, 4, 8, 11), 1)
    for index, prompt in enumerate(prompts):
        spec = spec_of(PROCESSORS["greedy"], max_new_tokens=2 + index)
        assert [events[index]] == gptzoo.generate(build_model(), [prompt], spec)


def test_a_batch_size_for_which_memory_is_too_small_is_called_and_others_are_captured(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from gptzoo.sampling.compile import cuda_graphs

    attempts: list[int] = []
    original = cuda_graphs.capture

    def capture(model: Any, tokens: torch.Tensor, *rest: Any) -> Any:
        attempts.append(len(tokens))
        if len(tokens) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return original(model, tokens, *rest)

    monkeypatch.setattr(cuda_graphs, "capture", capture)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = prepare_for_inference(build_model().cuda(), compile=True)
    with pytest.warns(UserWarning, match="decode steps of 3 rows are not captured"):
        tokens = gptzoo.generate(model, PROMPTS, spec_of(PROCESSORS["greedy"], stop_tokens=[]))
    assert tokens == gptzoo.generate(build_model(), PROMPTS, GREEDY)
    gptzoo.generate(model, PROMPTS[:2], GREEDY)
    assert attempts == [3, 2]


def test_a_model_that_waits_is_called_before_a_capture_begins(monkeypatch: pytest.MonkeyPatch) -> None:
    from gptzoo.sampling.compile import cuda_graphs

    model = build_model().cuda()

    def wait(module: Any, inputs: Any, output: torch.Tensor) -> None:
        output.sum().item()

    model.blocks[0].ffn.register_forward_hook(wait)
    monkeypatch.setattr(torch.cuda, "graph", None)  # a capture would fail
    tokens, positions = torch.tensor([[1], [2]]).cuda(), torch.tensor([[0]]).cuda()
    runner, states = cuda_graphs.CudaGraphRunner(model), model.new_states(2, 4)
    with torch.inference_mode(), pytest.warns(UserWarning, match="cannot be captured as CUDA graphs: .*synchronizing"):
        logits = runner(tokens, positions, states)
    assert torch.cuda.get_sync_debug_mode() == 0
    expected = model(tokens, positions=positions, states=model.new_states(2, 4))[0]
    torch.testing.assert_close(logits, expected)
