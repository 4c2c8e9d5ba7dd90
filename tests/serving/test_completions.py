"""POST /v1/completions with OpenAI's client: the same texts as in Python, also under concurrency."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch

from gptzoo.sampling.score import score
from gptzoo.sampling.search.beam import beam_search
from gptzoo.sampling.search.strategies import Contrastive
from gptzoo.sampling.spec import SamplingSpec
from gptzoo.sampling.text import best_samples, sample_texts

GREEDY = {"type": "temperature", "value": 0}


def in_python(served: Any, prompt: str, *processors: Any, n: int = 1, **fields: Any) -> list[Any]:
    spec = SamplingSpec.model_validate(
        {"max_new_tokens": 16, "stop_tokens": (256,), "processors": processors, **fields}
    )
    return sample_texts(served.loaded, [prompt], spec, n)[0]


def test_a_completion_is_the_text_that_python_generates(served: Any) -> None:
    answer = served.complete("Once")
    (sample,) = in_python(served, "Once", GREEDY)
    assert answer.choices[0].text == sample.text
    assert answer.choices[0].finish_reason == {"length": "length", "stop_token": "stop"}[sample.finish_reason]
    assert answer.object == "text_completion"
    assert answer.usage.prompt_tokens == 4
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens


def test_a_seed_determines_all_samples(served: Any) -> None:
    answer = served.complete("Once", temperature=1.0, n=3, seed=7)
    expected = in_python(served, "Once", n=3, seed=7)
    assert [choice.text for choice in answer.choices] == [sample.text for sample in expected]
    assert [choice.index for choice in answer.choices] == [0, 1, 2]


def test_requests_without_a_seed_differ(served: Any) -> None:
    texts = {served.complete("Once", temperature=1.0, max_tokens=40).choices[0].text for _ in range(2)}
    assert len(texts) == 2


def test_several_prompts_are_answered_in_order_as_text_and_as_ids(served: Any) -> None:
    prompts = ["a", "A long one", "Once"]
    answer = served.complete(prompts, n=2, temperature=1.0, seed=3)
    expected = [sample.text for prompt in prompts for sample in in_python(served, prompt, n=2, seed=3)]
    assert [choice.text for choice in answer.choices] == expected
    as_ids = served.complete([list(prompt.encode()) for prompt in prompts], n=2, temperature=1.0, seed=3)
    assert [choice.text for choice in as_ids.choices] == expected
    assert served.complete(list(b"Once")).choices[0].text == served.complete("Once").choices[0].text


def test_concurrent_clients_get_the_same_texts_as_alone(served: Any) -> None:
    def ask(number: int) -> str:
        prompt = "Once upon a time"[: 1 + number]
        return served.complete(prompt, max_tokens=5 + 3 * number, temperature=1.0, seed=number).choices[0].text

    with ThreadPoolExecutor(12) as pool:
        together = [*pool.map(ask, range(12))]
    assert together == [ask(number) for number in range(12)]


def test_a_stream_is_the_text_in_chunks(served: Any) -> None:
    options = {"max_tokens": 30, "temperature": 1.0, "seed": 5, "n": 2}
    texts = ["", ""]
    reasons: list[str | None] = [None, None]
    usage = None
    for chunk in served.complete("Once", stream=True, stream_options={"include_usage": True}, **options):
        usage = chunk.usage
        for choice in chunk.choices:
            texts[choice.index] += choice.text
            reasons[choice.index] = choice.finish_reason
    complete = served.complete("Once", **options)
    assert texts == [choice.text for choice in complete.choices]
    assert reasons == [choice.finish_reason for choice in complete.choices]
    assert usage == complete.usage


def test_a_text_ends_before_a_stop_string_also_in_a_stream(served: Any) -> None:
    text = served.complete("Once", max_tokens=30).choices[0].text
    stop = text[10:13]
    complete = served.complete("Once", max_tokens=30, stop=["absent", stop])
    assert complete.choices[0].text == text[: text.index(stop)]
    assert complete.choices[0].finish_reason == "stop"
    chunks = served.complete("Once", max_tokens=30, stop=stop, stream=True)
    assert "".join(chunk.choices[0].text for chunk in chunks) == text[: text.index(stop)]


def test_log_probabilities_are_those_of_the_model(served: Any) -> None:
    answer = served.complete("Once", logprobs=3, temperature=1.0, seed=2)
    logprobs = answer.choices[0].logprobs
    tokens = [*answer.choices[0].text.encode("utf-8", "surrogateescape")] if answer.choices[0].text.isascii() else None
    (sample,) = in_python(served, "Once", seed=2)
    torch.testing.assert_close(logprobs.token_logprobs, list(sample.log_probabilities), rtol=0, atol=1e-4)
    assert tokens is None or tokens == list(sample.tokens)
    for token, value, top in zip(logprobs.tokens, logprobs.token_logprobs, logprobs.top_logprobs, strict=True):
        assert top[token] == pytest.approx(value, abs=1e-6)
        assert len(top) in (3, 4)
        assert max(top.values()) == next(iter(top.values()))


def test_an_echo_with_log_probabilities_scores_the_prompt(served: Any) -> None:
    """Evaluation harnesses score a text this way, without generating any token."""
    answer = served.complete("Once upon", max_tokens=0, echo=True, logprobs=2)
    logprobs = answer.choices[0].logprobs
    assert answer.choices[0].text == "Once upon"
    assert "".join(logprobs.tokens) == "Once upon"
    assert logprobs.token_logprobs[0] is None
    assert logprobs.text_offset == [*range(9)]
    (expected,) = score(served.loaded.model, [list(b"Once upon")])
    torch.testing.assert_close(logprobs.token_logprobs[1:], expected.tolist(), rtol=0, atol=1e-4)


def test_an_echo_returns_the_prompt_before_the_text(served: Any) -> None:
    plain = served.complete("Once").choices[0].text
    assert served.complete("Once", echo=True).choices[0].text == "Once" + plain
    chunks = served.complete("Once", echo=True, stream=True)
    assert "".join(chunk.choices[0].text for chunk in chunks) == "Once" + plain


def test_best_of_returns_the_samples_with_the_highest_mean_log_probability(served: Any) -> None:
    answer = served.complete("Once", temperature=1.0, seed=4, n=2, best_of=6)
    expected = best_samples(in_python(served, "Once", n=6, seed=4), 2)
    assert [choice.text for choice in answer.choices] == [sample.text for sample in expected]


def test_penalties_and_biases_are_logits_processors(served: Any) -> None:
    answer = served.complete(
        "Once", presence_penalty=1.5, frequency_penalty=0.5, logit_bias={"97": 3}, top_p=0.9, temperature=0.7, seed=1
    )
    processors = [
        {"type": "presence_penalty", "value": 1.5},
        {"type": "frequency_penalty", "value": 0.5},
        {"type": "logit_bias", "biases": {"97": 3.0}},
        {"type": "temperature", "value": 0.7},
        {"type": "top_p", "p": 0.9},
    ]
    assert answer.choices[0].text == in_python(served, "Once", *processors, seed=1)[0].text


def test_a_request_may_name_any_processor(served: Any) -> None:
    processors = [{"type": "regex", "pattern": "[0-9]{3} cats"}, {"type": "min_p", "p": 0.01}]
    with served.client() as client:
        answer = client.completions.create(
            model="tiny", prompt="Once", seed=1, max_tokens=30, extra_body={"processors": processors}
        )
    text = answer.choices[0].text
    assert text[:3].isdigit()
    assert text[3:] == " cats"
    assert answer.choices[0].finish_reason == "stop"


def test_a_request_may_name_a_strategy(served: Any) -> None:
    beams = served.complete("Once", temperature=None, n=2, extra_body={"strategy": {"type": "beams", "n_beams": 3}})
    spec = SamplingSpec(max_new_tokens=16, stop_tokens=(256,))
    expected = beam_search(served.loaded.model, list(b"Once"), spec, served.loaded.tokenizer, 3)
    decoded = [served.loaded.tokenizer.decode(beam.tokens) for beam in expected[:2]]
    assert [choice.text for choice in beams.choices] == decoded
    contrastive = served.complete("Once", temperature=None, extra_body={"strategy": {"type": "contrastive"}})
    assert contrastive.choices[0].text == Contrastive(served.loaded, spec).samples("Once")[0].text
    drafted = served.complete("Once", extra_body={"strategy": {"type": "speculative", "n_ahead": 3}})
    assert drafted.choices[0].text == served.complete("Once").choices[0].text


OFF: list[dict[str, Any]] = [
    {"top_k": 0},
    {"top_k": -1},
    {"min_p": 0},
    {"min_p": 0.0},
    {"repetition_penalty": 1.0},
    {"presence_penalty": 0, "frequency_penalty": 0.0, "logit_bias": {}},
    {"top_p": 1, "temperature": 1},
    {"stop": ""},
    {"stop": []},
    {"suffix": ""},
    {"logprobs": False},
    {"stream": None, "echo": None, "n": None, "best_of": None, "stop": None, "suffix": None, "logprobs": None},
    {"seed": 3, "top_p": None, "top_k": None, "min_p": None, "repetition_penalty": None, "temperature": None},
    {"processors": [], "temperature": 1.0, "top_p": 1.0, "top_k": -1, "repetition_penalty": 1.0, "presence_penalty": 0},
]


@pytest.mark.parametrize("fields", OFF)
def test_values_that_clients_send_for_a_field_that_is_off_change_nothing(served: Any, fields: dict[str, Any]) -> None:
    expected = served.complete("Once", temperature=None, seed=3)
    answer = served.complete("Once", temperature=None, seed=3, extra_body=fields)
    assert answer.choices == expected.choices
    assert len(answer.choices) == 1


def test_a_null_prompt_starts_a_new_text(served: Any) -> None:
    assert served.complete("", extra_body={"prompt": None}).choices == served.complete("").choices


def test_top_p_zero_keeps_only_the_most_likely_token(served: Any) -> None:
    greedy = served.complete("Once", max_tokens=30).choices[0].text
    assert served.complete("Once", max_tokens=30, temperature=1.5, top_p=0).choices[0].text == greedy


def test_fields_of_other_servers_are_logits_processors(served: Any) -> None:
    fields = {"top_k": 9, "min_p": 0.01, "repetition_penalty": 1.3}
    answer = served.complete("Once", temperature=0.8, top_p=0.9, seed=1, extra_body=fields)
    processors = [
        {"type": "repetition_penalty", "value": 1.3},
        {"type": "temperature", "value": 0.8},
        {"type": "top_k", "k": 9},
        {"type": "top_p", "p": 0.9},
        {"type": "min_p", "p": 0.01},
    ]
    assert answer.choices[0].text == in_python(served, "Once", *processors, seed=1)[0].text


def test_the_model_is_listed(served: Any) -> None:
    with served.client() as client:
        assert [model.id for model in client.models.list()] == ["tiny"]
        assert client.models.retrieve("tiny").owned_by == "gptzoo"
