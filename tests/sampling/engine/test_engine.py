from __future__ import annotations

from collections import defaultdict
from typing import Any

import pytest
import torch
from support import loud, small
from torch import Tensor

import gptzoo
from gptzoo.errors import InputError
from gptzoo.sampling.engine.engine import Engine
from gptzoo.sampling.processors.processor import LogitsProcessor
from gptzoo.sampling.request import Event, Request

GREEDY: list[dict[str, Any]] = [{"type": "temperature", "value": 0}]


def spec(**fields: Any) -> gptzoo.SamplingSpec:
    return gptzoo.SamplingSpec.model_validate(fields)


def model(**fields: Any) -> gptzoo.Architecture:
    return loud(gptzoo.build(small(**{"positional": "rope", **fields}), seed=3)).eval()


def written(event: Event) -> list[int]:
    return [] if event.choice is None or event.end == "stop_token" else [event.choice.token]


def run(engine: Engine) -> dict[tuple[Any, int], list[int]]:
    """The tokens of each (request, sample)."""
    texts: dict[tuple[Any, int], list[int]] = defaultdict(list)
    while engine.busy:
        for event in engine.step():
            texts[event.request, event.sample] += written(event)
    return dict(texts)


def alone(made: gptzoo.Architecture, request: Request) -> list[list[int]]:
    """Its samples, one after the other."""
    engines = [Engine(made, n_rows=1, max_length=64) for _ in range(request.n_samples)]
    texts = []
    for sample, engine in enumerate(engines):
        engine.submit(Request(request.tokens, request.spec, id=0, first_sample=request.first_sample + sample))
        texts.append(run(engine)[0, 0])
    return texts


REQUESTS = [
    Request([1, 2, 3], spec(max_new_tokens=9, processors=GREEDY), id="greedy"),
    Request([4], spec(max_new_tokens=3, seed=4), id="short", n_samples=3),
    Request([5, 6, 7, 8, 9, 10, 11], spec(max_new_tokens=6, seed=5), id="long"),
    Request([4, 5], spec(max_new_tokens=7, processors=[{"type": "top_k", "k": 3}], seed=6), id="k", n_samples=2),
    Request([1, 2, 3], spec(max_new_tokens=5, seed=7), id="same prompt", first_sample=3),
]


@pytest.mark.parametrize("n_rows", [1, 2, 3, 16])
@pytest.mark.parametrize(
    "parts",
    [{}, {"attention": {"type": "sdpa", "window": 4}}, {"attention": "naive", "positional": "sinusoidal"}],
    ids=["cache", "ring", "naive"],
)
def test_what_a_request_gets_does_not_depend_on_what_runs_beside_it(parts: dict[str, Any], n_rows: int) -> None:
    made = model(**parts)
    engine = Engine(made, n_rows=n_rows, max_length=64)
    for request in REQUESTS:
        engine.submit(request)
    texts = run(engine)
    for request in REQUESTS:
        assert [texts[request.id, sample] for sample in range(request.n_samples)] == alone(made, request)


# With all that is installed: test_every_combination.py; of each package alone: the kit's property `engine`.
@pytest.mark.parametrize("attention", list(gptzoo.registered("attention")))
@pytest.mark.parametrize("positional", list(gptzoo.registered("positional")))
def test_rows_that_are_refilled_give_the_logits_of_one_forward(attention: str, positional: str) -> None:
    try:
        made = model(attention=attention, positional=positional).double()
    except gptzoo.SpecError as error:
        pytest.skip(str(error))
    engine = Engine(made, n_rows=2, max_length=16)
    prompts = [[1, 2, 3], [4], [5, 6, 7, 8, 9]]
    for number, prompt in enumerate(prompts):
        engine.submit(Request(prompt, spec(max_new_tokens=4 + number), id=number))
    told: dict[Any, list[Event]] = defaultdict(list)
    while engine.busy:
        for event in engine.step():
            told[event.request].append(event)
    for number, prompt in enumerate(prompts):
        choices = [event.choice for event in told[number] if event.choice]
        tokens = [choice.token for choice in choices]
        with torch.no_grad():
            logits = made(torch.tensor([[*prompt, *tokens]]))[0][0, len(prompt) - 1 : -1]
        expected = logits.log_softmax(-1).gather(-1, torch.tensor(tokens)[:, None])[:, 0]
        seen = torch.tensor([choice.log_probability for choice in choices], dtype=torch.float64)
        torch.testing.assert_close(seen, expected, atol=1e-5, rtol=0)


def test_a_free_row_is_refilled_in_the_step_in_which_it_became_free() -> None:
    engine = Engine(model(), n_rows=2, max_length=64)
    for number, length in enumerate((2, 5, 3)):
        engine.submit(Request([1 + number], spec(max_new_tokens=length), id=number))
    steps = [sorted((event.request, event.end) for event in engine.step()) for _ in range(5)]
    assert steps == [
        [(0, None), (1, None)],
        [(0, "length"), (1, None), (2, None)],
        [(1, None), (2, None)],
        [(1, None), (2, "length")],
        [(1, "length")],
    ]
    assert not engine.busy


def test_samples_of_one_prompt_read_it_once(monkeypatch: pytest.MonkeyPatch) -> None:
    made = model()
    read: list[Any] = []
    prefill = made.prefill
    monkeypatch.setattr(
        made, "prime", lambda prompts, *args, **kwargs: read.append(prompts) or prefill(prompts, *args, **kwargs)
    )
    engine = Engine(made, n_rows=2, max_length=64)
    engine.submit(Request([1, 2], spec(max_new_tokens=3), id="a", n_samples=5))
    engine.submit(Request([1, 2], spec(max_new_tokens=3), id="b", n_samples=2))
    assert len({tuple(text) for text in run(engine).values()}) > 1
    assert read == [[(1, 2)]]


def test_a_stop_token_ends_a_text_and_is_not_given() -> None:
    made = model()
    (whole,) = alone(made, Request([1], spec(max_new_tokens=8, processors=GREEDY)))
    engine = Engine(made, n_rows=1, max_length=64)
    engine.submit(Request([1], spec(max_new_tokens=8, processors=GREEDY, stop_tokens=[whole[3]])))
    events = [event for _ in range(20) for event in engine.step()]
    cut = whole[: whole.index(whole[3])]
    assert [token for event in events for token in written(event)] == cut
    assert [event.end for event in events] == [*[None] * len(cut), "stop_token"]


def test_a_request_that_is_cancelled_leaves_the_others_as_they_are() -> None:
    made = model()
    engine = Engine(made, n_rows=3, max_length=64)
    for number in range(5):
        engine.submit(Request([1 + number], spec(max_new_tokens=6, seed=number), id=number))
    first = {event.request: written(event) for event in engine.step()}
    assert engine.cancel(0)
    assert engine.cancel(4)
    assert not engine.cancel("nobody")
    assert (engine.n_writing, engine.n_waiting) == (2, 1)
    texts = run(engine)
    assert {request for request, _ in texts} == {1, 2, 3}
    for number in (1, 2, 3):
        expected = alone(made, Request([1 + number], spec(max_new_tokens=6, seed=number)))
        assert [[*first.get(number, []), *texts[number, 0]]] == expected


class Refuses(LogitsProcessor):
    name = "refuses"

    def __call__(self, logits: Tensor, rows: Any) -> Tensor:
        raise InputError("nothing can follow")


def test_what_one_request_cannot_do_ends_that_request_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    made = model()
    engine = Engine(made, n_rows=2, max_length=64)
    failing = spec(max_new_tokens=3)
    engine.submit(Request([2], failing, id="bad"))
    refuses = Refuses(LogitsProcessor.Config.model_construct(type="refuses"))
    engine._waiting[0].endings.processors = [refuses]
    good = Request([1], spec(max_new_tokens=3, processors=GREEDY), id="good")
    engine.submit(good)
    events = [event for _ in range(4) for event in engine.step()]
    (bad,) = [event for event in events if event.request == "bad"]
    assert (bad.choice, str(bad.error)) == (None, "nothing can follow")
    assert [[token for event in events if event.request == "good" for token in written(event)]] == alone(made, good)


def test_what_cannot_end_is_refused_when_it_is_submitted() -> None:
    limited = Engine(model(positional="learned"), n_rows=1)
    reach = limited.max_length
    with pytest.raises(InputError, match=f"ask for at most {reach - 2} new tokens"):
        limited.submit(Request([1, 2], spec(max_new_tokens=reach - 1)))
    with pytest.raises(InputError, match="the engine's rows have room for 10"):
        Engine(model(), max_length=10).submit(Request([1, 2], spec(max_new_tokens=9)))
    with pytest.raises(InputError, match="a prompt is empty"):
        limited.submit(Request([], spec(max_new_tokens=1)))
    assert not limited.busy


def test_nothing_to_write_ends_at_once() -> None:
    engine = Engine(model(), n_rows=1)
    engine.submit(Request([1], spec(max_new_tokens=0), id="none", n_samples=2))
    assert engine.step() == [Event("none", 0, None, "length"), Event("none", 1, None, "length")]
    assert not engine.busy


def test_the_rows_take_the_memory_that_build_announces() -> None:
    from gptzoo.model.accounting import account

    made = model()
    engine = Engine(made, n_rows=3)
    taken = sum(t.nbytes for layer in engine._reader.states for state in layer.values() for t in state.values())
    assert taken == 3 * account(made.spec).state_bytes
