"""A sequence that fails ends with an error of its own, and the other sequences get the same tokens as without it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from support import admit, small, with_large_weights
from torch import Tensor

import gptzoo
from gptzoo import registry
from gptzoo.data.tokenizers.byte import ByteTokenizer
from gptzoo.errors import InputError, LogitsError, ProcessorError
from gptzoo.sampling.engine.engine import Engine
from gptzoo.sampling.request import Request
from gptzoo.sampling.search.beam import beam_search
from gptzoo.sampling.search.contrastive import contrastive_search

BAD_TOKEN = 12  # prompts with this token make the model or the processor fail
VALUES = {"NaN": [float("nan"), 1.0], "+inf": [float("inf"), 1.0], "-inf alone": [float("-inf")] * 2}
EFFECTS: dict[str, Callable[[Tensor], Any]] = {
    "KeyError": lambda row: {}["absent"],
    "ValueError": lambda row: int("x"),
    "NaN": lambda row: row.fill_(float("nan")),
    "every token": lambda row: row.fill_(float("-inf")),
}


class FailsAtThirdToken(gptzoo.LogitsProcessor):
    """Fails at the third new token of a text whose prompt has the bad token."""

    name = "fails_at_third_token"

    class Config(gptzoo.LogitsProcessor.Config):
        effect: str = "ValueError"

    def __call__(self, logits: Tensor, sequences: Any) -> Tensor:
        result = logits.clone()
        for row, sequence in enumerate(sequences):
            if sequence.n_new == 2 and BAD_TOKEN in sequence.tokens[: sequence.prompt_length]:
                EFFECTS[self.config.effect](result[row])
        return result


class FinishedFails(gptzoo.LogitsProcessor):
    """Fails in `finished` after the second new token of a text whose prompt has the bad token."""

    name = "finished_fails"

    def __call__(self, logits: Tensor, sequences: Any) -> Tensor:
        return logits

    def finished(self, sequence: Any) -> bool:
        if sequence.n_new == 2 and BAD_TOKEN in sequence.tokens[: sequence.prompt_length]:
            raise KeyError("state")
        return False


@pytest.fixture(autouse=True)
def plugins() -> Any:
    with registry.use(registry.discover("none")):
        admit(FailsAtThirdToken)
        admit(FinishedFails)
        yield


def build_model(seed: int = 3, **fields: Any) -> gptzoo.Architecture:
    return with_large_weights(gptzoo.build(small(**{"positional": "rope", **fields}), seed=seed)).eval()


def break_logits(model: gptzoo.Architecture, values: list[float]) -> gptzoo.Architecture:
    """Give the model these logits wherever it reads the bad token."""

    def replace(module: Any, arguments: Any, output: Any) -> Any:
        logits, *rest = output
        tokens = arguments[0].to(logits.device)
        logits = logits.clone()
        is_bad = tokens == BAD_TOKEN
        logits[is_bad[:, -logits.shape[1] :]] = torch.tensor(values * logits.shape[-1])[: logits.shape[-1]]
        return (logits, *rest)

    model.register_forward_hook(replace)
    prefill = model.prefill

    def prefill_and_replace(prompts: Any, *arguments: Any, **options: Any) -> Any:
        output = prefill(prompts, *arguments, **options)
        for row, prompt in enumerate(prompts):
            if prompt[-1] == BAD_TOKEN:
                output.logits[row] = torch.tensor(values * output.logits.shape[-1])[: output.logits.shape[-1]]
        return output

    model.prefill = prefill_and_replace  # type: ignore[method-assign]
    return model


def spec(*processors: Any, **fields: Any) -> gptzoo.SamplingSpec:
    return gptzoo.SamplingSpec.model_validate({"max_new_tokens": 6, "processors": processors, **fields})


def run(engine: Engine, *requests: Request) -> tuple[dict[Any, list[int]], dict[Any, Exception]]:
    for request in requests:
        engine.submit(request)
    tokens: dict[Any, list[int]] = {}
    errors: dict[Any, Exception] = {}
    while engine.busy:
        for event in engine.step():
            key = event.request_id, event.sample
            if event.error is not None:
                errors[key] = event.error
            elif event.token is not None:
                tokens.setdefault(key, []).append(event.token)
    return tokens, errors


def good_requests(sampling: gptzoo.SamplingSpec, **fields: Any) -> list[Request]:
    other = spec({"type": "top_k", "k": 5}, seed=8)
    return [
        Request([1, 2, 3], sampling, id="a", n_samples=2, **fields),
        Request([4, 5], sampling, id="b", first_sample=4, **fields),
        Request([5, 6, 7], other, id="c"),
    ]


def check_isolated(make_engine: Callable[[], Engine], good: list[Request], bad: Request, kind: type[Exception]) -> str:
    """Check the tokens of the good requests with and without the bad one. Return the bad one's message."""
    expected, no_errors = run(make_engine(), *good)
    assert not no_errors
    engine = make_engine()
    tokens, errors = run(engine, good[0], bad, *good[1:])
    assert errors.keys() == {("bad", 0)}
    assert {key: value for key, value in tokens.items() if key[0] != "bad"} == expected
    assert run(engine, *good)[0] == expected  # the slot of the failed sequence can be used again
    assert isinstance(errors["bad", 0], kind)
    return str(errors["bad", 0])


@pytest.mark.parametrize("effect", EFFECTS)
def test_a_processor_that_fails_ends_only_its_sequence(effect: str) -> None:
    model = build_model()
    sampling = spec({"type": "fails_at_third_token", "effect": effect}, seed=5)
    bad = Request([BAD_TOKEN, 2, 3], sampling, id="bad")
    message = check_isolated(
        lambda: Engine(model, n_slots=4, max_length=32), good_requests(sampling), bad, ProcessorError
    )
    assert "logits_processor 'fails_at_third_token' at new token 3" in message


def test_a_processor_that_fails_before_greedy_decoding_is_not_hidden_by_it() -> None:
    sampling = spec(
        {"type": "fails_at_third_token", "effect": "every token"}, {"type": "temperature", "value": 0}, seed=5
    )
    with pytest.raises(ProcessorError, match="at new token 3"):
        gptzoo.generate(build_model(), [[BAD_TOKEN]], sampling)


def test_a_processor_whose_finished_fails_ends_only_its_sequence() -> None:
    model = build_model()
    sampling = spec({"type": "finished_fails"}, seed=5)
    bad = Request([BAD_TOKEN, 2, 3], sampling, id="bad")
    message = check_isolated(
        lambda: Engine(model, n_slots=4, max_length=32), good_requests(sampling), bad, ProcessorError
    )
    assert "after new token 2: KeyError" in message


@pytest.mark.parametrize("values", VALUES)
@pytest.mark.parametrize("processors", [[], [{"type": "temperature", "value": 0}], [{"type": "top_p", "p": 0.9}]])
def test_logits_that_are_not_finite_end_only_their_sequence(values: str, processors: list[Any]) -> None:
    model = break_logits(build_model(), VALUES[values])
    sampling = spec({"type": "banned_tokens", "ids": [BAD_TOKEN]}, *processors, seed=5)
    good = good_requests(sampling)[:2]
    bad = Request([1, 2, BAD_TOKEN], sampling, id="bad")
    message = check_isolated(lambda: Engine(model, n_slots=4, max_length=32), good, bad, LogitsError)
    assert f"the logits of the model for new token 1, after 3 tokens, have {values}" in message


@pytest.mark.parametrize("broken", ["the model", "the draft model"])
def test_logits_that_are_not_finite_end_only_their_sequence_in_speculation(broken: str) -> None:
    model, draft = build_model(), build_model(4)
    break_logits(model if broken == "the model" else draft, VALUES["NaN"])
    banned = {"type": "banned_tokens", "ids": [BAD_TOKEN]}
    good = good_requests(spec(banned, seed=5), n_draft_tokens=3)[:2]
    forced = spec({"type": "forced_tokens", "ids": [1, 2, BAD_TOKEN]}, seed=5)
    bad = Request([4, 5, 6], forced, id="bad", n_draft_tokens=3)
    message = check_isolated(lambda: Engine(model, n_slots=4, max_length=32, draft=draft), good, bad, LogitsError)
    assert f"the logits of {broken} for new token 4" in message


def test_a_processor_that_fails_ends_only_its_sequence_in_speculation() -> None:
    model, draft = build_model(), build_model(4)
    sampling = spec({"type": "fails_at_third_token"}, seed=5)
    good = good_requests(sampling, n_draft_tokens=3)[:2]
    bad = Request([BAD_TOKEN, 5, 6], sampling, id="bad", n_draft_tokens=3)
    check_isolated(lambda: Engine(model, n_slots=4, max_length=32, draft=draft), good, bad, ProcessorError)


@pytest.mark.parametrize("values", VALUES)
def test_searches_raise_an_error_for_logits_that_are_not_finite(values: str) -> None:
    model = break_logits(build_model(), VALUES[values])
    with pytest.raises(LogitsError, match="new token 1"):
        beam_search(model, [1, BAD_TOKEN], spec())
    with pytest.raises(LogitsError, match="new token 1"):
        list(contrastive_search(model, [1, BAD_TOKEN], spec()))


def test_searches_raise_an_error_for_a_processor_that_fails() -> None:
    sampling = spec({"type": "fails_at_third_token"})
    with pytest.raises(ProcessorError, match="at new token 3"):
        beam_search(build_model(), [BAD_TOKEN], sampling)
    with pytest.raises(ProcessorError, match="at new token 3"):
        list(contrastive_search(build_model(), [BAD_TOKEN], sampling))


def test_a_prompt_that_the_model_cannot_read_ends_only_its_request() -> None:
    model = build_model()
    prefill = model.prefill

    def fail(prompts: Any, *arguments: Any, **options: Any) -> Any:
        if any(BAD_TOKEN in prompt for prompt in prompts):
            raise RuntimeError("out of memory, for example")
        return prefill(prompts, *arguments, **options)

    model.prefill = fail  # type: ignore[method-assign]
    sampling = spec(seed=5)
    bad = Request([1, BAD_TOKEN, 3], sampling, id="bad")
    check_isolated(lambda: Engine(model, n_slots=4, max_length=32), good_requests(sampling), bad, RuntimeError)


def fail_at(model: gptzoo.Architecture, condition: Callable[[Tensor], bool]) -> gptzoo.Architecture:
    """Let a decode step raise an exception if the condition on its input tokens is true."""

    def check(module: Any, arguments: Any) -> None:
        if condition(arguments[0]):
            raise MemoryError("out of memory, for example")

    model.register_forward_pre_hook(check)
    return model


def reads_bad_token(tokens: Tensor) -> bool:
    return bool((tokens == BAD_TOKEN).any())


@pytest.mark.parametrize("attention", ["sdpa", {"type": "sdpa", "window": 3}], ids=["all positions", "ring buffer"])
@pytest.mark.parametrize("n_draft_tokens", [0, 3])
def test_a_decode_step_that_fails_ends_only_the_sequence_that_causes_it(attention: Any, n_draft_tokens: int) -> None:
    model = fail_at(build_model(attention=attention), reads_bad_token)
    draft = build_model(4)
    good = good_requests(spec({"type": "banned_tokens", "ids": [BAD_TOKEN]}, seed=5), n_draft_tokens=n_draft_tokens)[:2]
    forced = spec({"type": "forced_tokens", "ids": [1, 2, BAD_TOKEN]}, seed=5)
    bad = Request([4, 5, 6], forced, id="bad", n_draft_tokens=n_draft_tokens)

    def make_engine() -> Engine:
        return Engine(model, n_slots=4, max_length=32, draft=draft if n_draft_tokens else None)

    message = check_isolated(make_engine, good, bad, MemoryError)
    assert message == "out of memory, for example"


def test_a_draft_model_that_fails_ends_only_the_sequence_that_causes_it() -> None:
    draft = fail_at(build_model(4), reads_bad_token)
    good = good_requests(spec({"type": "banned_tokens", "ids": [BAD_TOKEN]}, seed=5), n_draft_tokens=3)[:2]
    bad = Request([4, 5, 6], spec({"type": "forced_tokens", "ids": [1, BAD_TOKEN]}), id="bad", n_draft_tokens=3)
    check_isolated(lambda: Engine(build_model(), n_slots=4, max_length=32, draft=draft), good, bad, MemoryError)


@pytest.mark.parametrize("n_draft_tokens", [0, 3])
@pytest.mark.parametrize("call", [0, 1, 2, 4])
def test_a_failure_that_does_not_return_changes_no_token(n_draft_tokens: int, call: int) -> None:
    requests = good_requests(spec(seed=5), n_draft_tokens=n_draft_tokens)
    draft = build_model(4) if n_draft_tokens else None
    expected, _ = run(Engine(build_model(), n_slots=4, max_length=32, draft=draft), *requests)
    for failing in ("model", "draft") if n_draft_tokens else ("model",):
        calls = iter(range(1000))
        model, draft = build_model(), build_model(4) if n_draft_tokens else None
        broken = model if failing == "model" else draft
        assert broken is not None
        fail_at(broken, lambda tokens, calls=calls: next(calls) == call)
        tokens, errors = run(Engine(model, n_slots=4, max_length=32, draft=draft), *requests)
        assert (tokens, errors) == (expected, {})
        assert next(calls) > call


def test_a_request_without_new_tokens_gets_none_beside_others_of_its_length() -> None:
    engine = Engine(build_model(), n_slots=4, max_length=32)
    requests = [Request([1, 2], spec(max_new_tokens=n), id=n) for n in (3, 0, 2)]
    tokens, errors = run(engine, *requests)
    assert {key[0]: len(new) for key, new in tokens.items()} == {3: 3, 2: 2}
    assert not errors


@pytest.fixture
def spare() -> gptzoo.Architecture:
    """A model with 43 more token ids than the tokenizer. They are by far the most likely ones."""
    model = build_model(vocab_size=300)

    def raise_spare(module: Any, arguments: Any, output: Any) -> Any:
        logits, *rest = output
        logits = logits.clone()
        logits[..., 257:] += 100
        return (logits, *rest)

    model.register_forward_hook(raise_spare)
    prefill = model.prefill

    def prefill_and_raise(*arguments: Any, **options: Any) -> Any:
        output = prefill(*arguments, **options)
        output.logits[..., 257:] += 100
        return output

    model.prefill = prefill_and_raise  # type: ignore[method-assign]
    return model


@pytest.mark.parametrize("processors", [[], [{"type": "top_k", "k": 1}], [{"type": "banned_tokens", "texts": ["ab"]}]])
def test_spare_token_ids_are_never_drawn_with_a_tokenizer(spare: gptzoo.Architecture, processors: list[Any]) -> None:
    tokenizer = ByteTokenizer(ByteTokenizer.Config())
    sampling = spec(*processors, seed=2)
    for draft, n_draft_tokens in ((None, 0), (spare, 3)):
        engine = Engine(spare, tokenizer, n_slots=2, max_length=32, draft=draft)
        engine.submit(Request([97, 280], sampling, n_samples=2, n_top_logprobs=5, n_draft_tokens=n_draft_tokens))
        while engine.busy:
            for event in engine.step():
                assert event.error is None
                assert event.token is not None
                assert event.token < 257
                assert len(event.top_logprobs) == 5
                assert max(event.top_logprobs) < 257
    beams = beam_search(spare, [97], sampling, tokenizer)
    assert all(token < 257 for beam in beams for token in beam.all_tokens)
    assert all(event.token < 257 for event in contrastive_search(spare, [97], sampling, tokenizer))
    assert max(gptzoo.generate(spare, [[97]], spec())[0]) >= 257  # token ids without a tokenizer


def test_a_forced_spare_token_is_an_error_of_the_request(spare: gptzoo.Architecture) -> None:
    sampling = spec({"type": "forced_tokens", "ids": [280]})
    with pytest.raises(InputError, match="no token is possible"):
        gptzoo.generate(spare, [[97]], sampling, ByteTokenizer(ByteTokenizer.Config()))
