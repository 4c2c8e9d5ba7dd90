"""Continuous batching: sequences are independent of their batch, slots are refilled, and requests can be cancelled."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import pytest
import torch
from support import small, with_large_weights
from torch import Tensor

import gptzoo
from gptzoo.errors import InputError
from gptzoo.sampling.engine.engine import Engine
from gptzoo.sampling.events import TokenEvent
from gptzoo.sampling.processors.processor import LogitsProcessor
from gptzoo.sampling.request import Request

GREEDY: list[dict[str, Any]] = [{"type": "temperature", "value": 0}]


def spec(**fields: Any) -> gptzoo.SamplingSpec:
    return gptzoo.SamplingSpec.model_validate(fields)


def build_model(**fields: Any) -> gptzoo.Architecture:
    return with_large_weights(gptzoo.build(small(**{"positional": "rope", **fields}), seed=3)).eval()


def text_tokens(event: TokenEvent) -> list[int]:
    return [] if event.token is None or event.finish_reason == "stop_token" else [event.token]


def run(engine: Engine) -> dict[tuple[Any, int], list[int]]:
    """Run the engine to the end and return the tokens of each (request id, sample)."""
    tokens: dict[tuple[Any, int], list[int]] = defaultdict(list)
    while engine.busy:
        for event in engine.step():
            tokens[event.request_id, event.sample] += text_tokens(event)
    return dict(tokens)


def generate_alone(model: gptzoo.Architecture, request: Request) -> list[list[int]]:
    """Generate the samples of a request one after the other, each in an engine of its own."""
    samples = []
    for sample in range(request.n_samples):
        engine = Engine(model, n_slots=1, max_length=64)
        engine.submit(Request(request.prompt_ids, request.spec, id=0, first_sample=request.first_sample + sample))
        samples.append(run(engine)[0, 0])
    return samples


REQUESTS = [
    Request([1, 2, 3], spec(max_new_tokens=9, processors=GREEDY), id="greedy"),
    Request([4], spec(max_new_tokens=3, seed=4), id="short", n_samples=3),
    Request([5, 6, 7, 8, 9, 10, 11], spec(max_new_tokens=6, seed=5), id="long"),
    Request([4, 5], spec(max_new_tokens=7, processors=[{"type": "top_k", "k": 3}], seed=6), id="k", n_samples=2),
    Request([1, 2, 3], spec(max_new_tokens=5, seed=7), id="same prompt", first_sample=3),
]


@pytest.mark.parametrize("n_slots", [1, 2, 3, 16])
@pytest.mark.parametrize(
    "parts",
    [{}, {"attention": {"type": "sdpa", "window": 4}}, {"attention": "naive", "positional": "sinusoidal"}],
    ids=["cache", "ring", "naive"],
)
def test_the_tokens_of_a_request_do_not_depend_on_other_requests(parts: dict[str, Any], n_slots: int) -> None:
    model = build_model(**parts)
    engine = Engine(model, n_slots=n_slots, max_length=64)
    for request in REQUESTS:
        engine.submit(request)
    tokens = run(engine)
    for request in REQUESTS:
        assert [tokens[request.id, sample] for sample in range(request.n_samples)] == generate_alone(model, request)


# test_every_combination.py covers all installed packages, and the conformance check `engine` each package alone.
@pytest.mark.parametrize("attention", list(gptzoo.registered("attention")))
@pytest.mark.parametrize("positional", list(gptzoo.registered("positional")))
def test_refilled_slots_give_the_log_probabilities_of_one_forward_pass(attention: str, positional: str) -> None:
    try:
        model = build_model(attention=attention, positional=positional).double()
    except gptzoo.SpecError as error:
        pytest.skip(str(error))
    engine = Engine(model, n_slots=2, max_length=16)
    prompts = [[1, 2, 3], [4], [5, 6, 7, 8, 9]]
    for number, prompt in enumerate(prompts):
        engine.submit(Request(prompt, spec(max_new_tokens=4 + number), id=number))
    events: dict[Any, list[TokenEvent]] = defaultdict(list)
    while engine.busy:
        for event in engine.step():
            events[event.request_id].append(event)
    for number, prompt in enumerate(prompts):
        tokens = [event.token for event in events[number] if event.token is not None]
        with torch.no_grad():
            logits = model(torch.tensor([[*prompt, *tokens]]))[0][0, len(prompt) - 1 : -1]
        expected = logits.log_softmax(-1).gather(-1, torch.tensor(tokens)[:, None])[:, 0]
        actual = torch.tensor([event.log_probability for event in events[number]], dtype=torch.float64)
        torch.testing.assert_close(actual, expected, atol=1e-5, rtol=0)


def test_a_slot_is_refilled_in_the_step_in_which_it_became_free() -> None:
    engine = Engine(build_model(), n_slots=2, max_length=64)
    for number, length in enumerate((2, 5, 3)):
        engine.submit(Request([1 + number], spec(max_new_tokens=length), id=number))
    steps = [sorted((event.request_id, event.finish_reason) for event in engine.step()) for _ in range(5)]
    assert steps == [
        [(0, None), (1, None)],
        [(0, "length"), (1, None), (2, None)],
        [(1, None), (2, None)],
        [(1, None), (2, "length")],
        [(1, "length")],
    ]
    assert not engine.busy


def test_a_prompt_is_prefilled_once_for_all_of_its_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    model = build_model()
    prefilled: list[Any] = []
    prefill = model.prefill

    def recording_prefill(prompts: Any, *args: Any, **kwargs: Any) -> Any:
        prefilled.append(prompts)
        return prefill(prompts, *args, **kwargs)

    monkeypatch.setattr(model, "prefill", recording_prefill)
    engine = Engine(model, n_slots=2, max_length=64)
    engine.submit(Request([1, 2], spec(max_new_tokens=3), id="a", n_samples=5))
    engine.submit(Request([1, 2], spec(max_new_tokens=3), id="b", n_samples=2))
    assert len({tuple(tokens) for tokens in run(engine).values()}) > 1
    assert prefilled == [[(1, 2)]]


def test_a_stop_token_ends_the_text_and_is_not_part_of_it() -> None:
    model = build_model()
    (full,) = generate_alone(model, Request([1], spec(max_new_tokens=8, processors=GREEDY)))
    engine = Engine(model, n_slots=1, max_length=64)
    engine.submit(Request([1], spec(max_new_tokens=8, processors=GREEDY, stop_tokens=[full[3]])))
    events = [event for _ in range(20) for event in engine.step()]
    expected = full[: full.index(full[3])]
    assert [token for event in events for token in text_tokens(event)] == expected
    assert [event.finish_reason for event in events] == [*[None] * len(expected), "stop_token"]


def test_cancelling_a_request_does_not_change_the_others() -> None:
    model = build_model()
    engine = Engine(model, n_slots=3, max_length=64)
    for number in range(5):
        engine.submit(Request([1 + number], spec(max_new_tokens=6, seed=number), id=number))
    first = {event.request_id: text_tokens(event) for event in engine.step()}
    assert engine.cancel(0)
    assert engine.cancel(4)
    assert not engine.cancel("unknown")
    assert (engine.n_running, engine.n_waiting) == (2, 1)
    tokens = run(engine)
    assert {request_id for request_id, _ in tokens} == {1, 2, 3}
    for number in (1, 2, 3):
        expected = generate_alone(model, Request([1 + number], spec(max_new_tokens=6, seed=number)))
        assert [[*first.get(number, []), *tokens[number, 0]]] == expected


class FailingProcessor(LogitsProcessor):
    name = "failing"

    def __call__(self, logits: Tensor, sequences: Any) -> Tensor:
        raise InputError("no token is possible")


def test_an_error_in_a_processor_ends_only_its_request() -> None:
    model = build_model()
    engine = Engine(model, n_slots=2, max_length=64)
    engine.submit(Request([2], spec(max_new_tokens=3), id="bad"))
    failing = FailingProcessor(LogitsProcessor.Config.model_construct(type="failing"))
    engine._waiting[0].stopping.processors = [failing]
    good = Request([1], spec(max_new_tokens=3, processors=GREEDY), id="good")
    engine.submit(good)
    events = [event for _ in range(4) for event in engine.step()]
    (bad,) = [event for event in events if event.request_id == "bad"]
    assert (bad.token, str(bad.error)) == (None, "no token is possible")
    good_tokens = [token for event in events if event.request_id == "good" for token in text_tokens(event)]
    assert [good_tokens] == generate_alone(model, good)


def test_a_request_that_cannot_be_completed_is_rejected_by_submit() -> None:
    limited = Engine(build_model(positional="learned"), n_slots=1)
    max_length = limited.max_length
    with pytest.raises(InputError, match=f"Ask for at most {max_length - 2} new tokens"):
        limited.submit(Request([1, 2], spec(max_new_tokens=max_length - 1)))
    with pytest.raises(InputError, match="each slot of the engine holds 10"):
        Engine(build_model(), max_length=10).submit(Request([1, 2], spec(max_new_tokens=9)))
    with pytest.raises(InputError, match="the prompt is empty"):
        limited.submit(Request([], spec(max_new_tokens=1)))
    with pytest.raises(InputError, match="needs a draft model"):
        limited.submit(Request([1], spec(max_new_tokens=1), n_draft_tokens=2))
    assert not limited.busy


def test_a_request_for_no_tokens_ends_at_once() -> None:
    engine = Engine(build_model(), n_slots=1)
    engine.submit(Request([1], spec(max_new_tokens=0), id="empty", n_samples=2))
    assert engine.step() == [
        TokenEvent(None, finish_reason="length", request_id="empty", sample=sample) for sample in range(2)
    ]
    assert not engine.busy


def test_the_slots_take_the_memory_that_build_reports() -> None:
    from gptzoo.model.accounting import model_costs

    model = build_model()
    engine = Engine(model, n_slots=3)
    n_bytes = sum(t.nbytes for layer in engine._cache.states for state in layer.values() for t in state.values())
    assert n_bytes == 3 * model_costs(model.spec).state_bytes
