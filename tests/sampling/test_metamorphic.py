"""Changes that must not change any token: order, batch size, slots, neighbours, streaming, and errors before."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import with_large_weights

import gptzoo
from gptzoo.checkpoint.model_folder import LoadedModel
from gptzoo.data.tokenizers.byte import ByteTokenizer
from gptzoo.sampling.engine.engine import Engine
from gptzoo.sampling.request import Request
from gptzoo.sampling.search.strategies import Beams, Contrastive
from gptzoo.sampling.strategies import Sampling, Speculative
from gptzoo.sampling.strategy import Strategy

SPEC = {"vocab_size": 257, "context_length": 48, "d_model": 16, "n_layers": 2, "n_heads": 2, "positional": "rope"}
PROMPTS = ["one", "a", "b c d", "one", "é😀", "0123456789", "in the end", "x"]
CHAINS: list[list[Any]] = [
    [],
    [{"type": "temperature", "value": 0}],
    [{"type": "repetition_penalty", "value": 1.5}, {"type": "top_p", "p": 0.8}],
    [{"type": "banned_tokens", "texts": ["a", "th"]}, {"type": "frequency_penalty", "value": 0.7}, "min_p"],
    [{"type": "no_repeat_ngram", "size": 1}, {"type": "top_k", "k": 9}],
]


def build_model(seed: int) -> gptzoo.Architecture:
    """Build a model in float64, so that the size of a batch does not decide between tokens."""
    return with_large_weights(gptzoo.build(SPEC, seed=seed), seed).double().eval()


MODEL, DRAFT = build_model(1), build_model(2)
TOKENIZER = ByteTokenizer(ByteTokenizer.Config())


def spec(chain: Sequence[Any] = (), **fields: Any) -> gptzoo.SamplingSpec:
    return gptzoo.SamplingSpec.model_validate({"max_new_tokens": 12, "processors": chain, "seed": 3, **fields})


def strategies(chain: Sequence[Any]) -> list[Strategy]:
    loaded, draft = (LoadedModel(model, TOKENIZER, Path("m")) for model in (MODEL, DRAFT))
    return [
        Sampling(loaded, spec(chain, stop_texts=["q"])),
        Speculative(loaded, spec(chain), draft, 3),
        Beams(loaded, spec(chain), 3),
        Contrastive(loaded, spec(chain), 0.4, 3),
    ]


def tokens_of_prompts(strategy: Strategy, prompts: Sequence[str], n: int, n_slots: int) -> list[list[tuple[int, ...]]]:
    results = dict(strategy.samples_of_prompts(prompts, n, n_slots=n_slots))
    return [[sample.tokens for sample in results[index]] for index in range(len(prompts))]


@pytest.mark.parametrize("chain", [CHAINS[0], *(pytest.param(chain, marks=pytest.mark.slow) for chain in CHAINS[1:])])
@pytest.mark.parametrize("kind", range(4), ids=["sampling", "speculative", "beams", "contrastive"])
def test_order_batch_size_and_neighbours_change_no_token(chain: list[Any], kind: int) -> None:
    strategy = strategies(chain)[kind]
    n = 1 if isinstance(strategy, Contrastive) else 2
    expected = [[sample.tokens for sample in strategy.samples(prompt, n)] for prompt in PROMPTS]
    for seed, n_slots in ((1, 1), (2, 3), (3, 16)):
        order = random.Random(seed).sample(range(len(PROMPTS)), len(PROMPTS))
        shuffled = tokens_of_prompts(strategy, [PROMPTS[index] for index in order], n, n_slots)
        assert shuffled == [expected[index] for index in order]


@pytest.mark.parametrize("chain", CHAINS, ids=range(len(CHAINS)))
def test_streams_are_equal_to_samples(chain: list[Any]) -> None:
    for strategy in strategies(chain):
        for prompt in PROMPTS[:4]:
            assert "".join(strategy.stream(prompt)) == strategy.samples(prompt)[0].text


def run(engine: Engine, requests: Sequence[Request]) -> dict[Any, list[int]]:
    """Submit requests at the given steps of the engine (their ids), and return the tokens by id and sample."""
    tokens: dict[Any, list[int]] = {}
    waiting = list(requests)
    step = 0
    while waiting or engine.busy:
        while waiting and waiting[0].id[0] <= step:
            engine.submit(waiting.pop(0))
        for event in engine.step() if engine.busy else ():
            assert event.error is None
            if event.token is not None:
                tokens.setdefault((event.request_id, event.sample), []).append(event.token)
        step += 1
    return tokens


@st.composite
def schedules(draw: st.DrawFn) -> tuple[list[Request], int]:
    """Draw requests, each with the step at which it is submitted, and the number of slots."""
    steps = sorted(draw(st.lists(st.integers(0, 12), min_size=1, max_size=6)))
    requests = []
    for number, step in enumerate(steps):
        prompt = draw(st.lists(st.integers(0, 256), min_size=1, max_size=9))
        fields = spec(
            draw(st.sampled_from(CHAINS)), seed=draw(st.integers(0, 5)), max_new_tokens=draw(st.integers(0, 8))
        )
        requests.append(
            Request(
                prompt,
                fields,
                id=(step, number),
                n_samples=draw(st.integers(1, 3)),
                first_sample=draw(st.integers(0, 2)),
                n_draft_tokens=draw(st.sampled_from([0, 0, 1, 4])),
            )
        )
    return requests, draw(st.integers(1, 5))


@pytest.mark.parametrize("n_examples", [12, pytest.param(150, marks=pytest.mark.slow)])
def test_any_schedule_of_requests_gives_the_tokens_of_each_alone(n_examples: int) -> None:
    @settings(max_examples=n_examples, deadline=None, derandomize=True, database=None)
    @given(schedules())
    def check(schedule: tuple[list[Request], int]) -> None:
        check_schedule(*schedule)

    check()


def check_schedule(requests: list[Request], n_slots: int) -> None:
    together = run(Engine(MODEL, TOKENIZER, n_slots=n_slots, max_length=20, draft=DRAFT), requests)
    alone: dict[Any, list[int]] = {}
    for request in requests:
        for sample in range(request.n_samples):
            single = Request(
                request.prompt_ids,
                request.spec,
                id=(0, sample),
                first_sample=request.first_sample + sample,
                n_draft_tokens=request.n_draft_tokens,
            )
            for tokens in run(Engine(MODEL, TOKENIZER, n_slots=1, max_length=20, draft=DRAFT), [single]).values():
                alone[request.id, sample] = tokens
    assert together == alone


def test_slots_can_be_used_again_after_errors_and_cancellations() -> None:
    engine = Engine(MODEL, TOKENIZER, n_slots=3, max_length=32, draft=DRAFT)
    requests = [Request([65 + n, 66], spec(seed=n), id=(0, n), n_draft_tokens=n) for n in range(4)]
    expected = run(Engine(MODEL, TOKENIZER, n_slots=3, max_length=32, draft=DRAFT), requests)
    broken = [False]

    def fail(module: Any, arguments: Any) -> None:
        if broken[0]:
            raise MemoryError("no memory now")

    hook = MODEL.register_forward_pre_hook(fail)
    try:
        for number in range(4):
            for request in requests:
                engine.submit(Request(request.prompt_ids, request.spec, id=("cancelled", request.id)))
            for _ in range(number):
                engine.step()
            broken[0] = number % 2 == 1
            engine.step()
            broken[0] = False
            for request in requests:
                engine.cancel(("cancelled", request.id))
            assert not engine.busy
            assert run(engine, requests) == expected
    finally:
        hook.remove()


def test_samples_of_one_request_are_those_of_separate_requests() -> None:
    strategy = strategies([])[0]
    many = strategy.samples("one", 4)
    for number in range(4):
        engine = Engine(MODEL, TOKENIZER, n_slots=1, max_length=32)
        tokens = run(engine, [Request([*b"one"], strategy.spec, id=(0,), first_sample=number)])
        assert tokens[(0,), 0][: len(many[number].tokens)] == list(many[number].tokens)
