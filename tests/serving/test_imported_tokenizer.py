"""BOS and several end tokens of an imported tokenizer, over HTTP."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import pytest
import torch
from support import with_large_weights

import gptzoo
from gptzoo.checkpoint.model_folder import LoadedModel
from gptzoo.data.tokenizers.bpe import BpeTokenizer
from gptzoo.data.tokenizers.special_tokens import SpecialTokens, add_special_tokens
from gptzoo.reference import Reference

BOS, ENDS = 256, (0, 257)


@pytest.fixture(scope="module")
def imported() -> LoadedModel:
    """Return a model with 300 ids whose tokenizer starts texts with BOS and knows two end tokens."""
    config: Any = Reference("tokenizer").validate({"type": "bpe", "vocab_size": 270})
    state = BpeTokenizer.fit(config, ["the cat and the dog and the bird"])
    tokenizer = config.build(add_special_tokens(state, SpecialTokens(prefix=(BOS,), end=ENDS)))
    spec = {"vocab_size": tokenizer.vocab_size, "context_length": 64, "d_model": 16, "n_layers": 1, "n_heads": 2}
    return LoadedModel(with_large_weights(gptzoo.build(spec)).eval(), tokenizer, Path("tiny"))


def expected_logprobs(loaded: LoadedModel, ids: list[int]) -> list[float]:
    with torch.no_grad():
        logits, _ = loaded.model(torch.tensor([ids]))
    log_probs = logits[0, :-1].double().log_softmax(-1)
    return [log_probs[index, token].item() for index, token in enumerate(ids[1:])]


def test_an_echoed_text_is_scored_after_bos(serve: Any, imported: LoadedModel) -> None:
    running = serve(imported)
    ids = [BOS, *BpeTokenizer.encode_continuation(imported.tokenizer, "the cat")]  # type: ignore[arg-type]
    answer = running.complete("the cat", echo=True, logprobs=1, max_tokens=0)
    first, *others = answer.choices[0].logprobs.token_logprobs
    assert first is None
    assert others == pytest.approx(expected_logprobs(imported, ids), abs=1e-4)
    assert answer.choices[0].text == "the cat"
    assert answer.usage.prompt_tokens == len(ids)


def test_a_prompt_of_token_ids_is_left_as_it_is(serve: Any, imported: LoadedModel) -> None:
    answer = serve(imported).complete([10, 20, 30], echo=True, logprobs=1, max_tokens=0)
    assert answer.choices[0].logprobs.token_logprobs[1:] == pytest.approx(
        expected_logprobs(imported, [10, 20, 30]), abs=1e-4
    )
    assert answer.usage.prompt_tokens == 3


def test_ids_without_bos_are_scored_without_it_but_not_under_the_prefix_of_the_harness(
    serve: Any, imported: LoadedModel
) -> None:
    """The three ways to score one text. lm-evaluation-harness asks `/tokenize` for ids without special tokens."""
    url = serve(imported).url

    def scores(prompt: Any) -> list[float]:
        body = {"model": "tiny", "prompt": prompt, "echo": True, "logprobs": 1, "max_tokens": 0}
        answer = httpx.post(url + "/v1/completions", json=body).json()
        values: list[float] = answer["choices"][0]["logprobs"]["token_logprobs"][1:]
        return values

    def ids(prefix: str) -> list[int]:
        body = {"prompt": "the cat", "add_special_tokens": False}
        tokens: list[int] = httpx.post(url + prefix + "/tokenize", json=body).json()["tokens"]
        return tokens

    with_bos = expected_logprobs(imported, [BOS, *ids("")])
    without_bos = expected_logprobs(imported, ids(""))
    assert scores("the cat") == pytest.approx(with_bos, abs=1e-4)
    assert scores(ids("/lm-eval")) == pytest.approx(with_bos, abs=1e-4)
    assert scores(ids("")) == pytest.approx(without_bos, abs=1e-4)
    assert without_bos != pytest.approx(with_bos[1:], abs=1e-2)


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("strategy", [None, {"type": "beams"}, {"type": "contrastive"}])
def test_each_end_token_ends_a_completion(end: int, strategy: Any, serve: Any, imported: LoadedModel) -> None:
    extra = {} if strategy is None else {"extra_body": {"strategy": strategy}}
    temperature = 0 if strategy is None else None
    answer = serve(imported).complete("the", max_tokens=5, logit_bias={str(end): 100}, temperature=temperature, **extra)
    assert (answer.choices[0].finish_reason, answer.choices[0].text) == ("stop", "")


@pytest.mark.parametrize("end", ENDS)
def test_a_constrained_text_may_end_with_each_end_token(end: int, serve: Any, imported: LoadedModel) -> None:
    pytest.importorskip("llguidance")
    bias = {"type": "logit_bias", "biases": {str(end): 100.0}}
    processors = [{"type": "regex", "pattern": "[a-c]{3,}"}, bias]
    answer = serve(imported).complete("the", max_tokens=30, temperature=None, extra_body={"processors": processors})
    assert answer.choices[0].finish_reason == "stop"
    assert len(answer.choices[0].text) == 3  # the first length at which it may end


def test_tokenize_adds_bos_as_a_completion_does(serve: Any, imported: LoadedModel) -> None:
    running = serve(imported)
    assert imported.tokenizer is not None
    plain = list(imported.tokenizer.encode_continuation("the cat"))

    def tokens(**fields: Any) -> list[int]:
        return httpx.post(running.url + "/tokenize", json={"prompt": "the cat", **fields}).json()["tokens"]

    assert tokens() == tokens(add_special_tokens=True) == [BOS, *plain]
    assert tokens(add_special_tokens=False) == plain
    assert tokens(prompt="", add_special_tokens=False) == []
    info = httpx.get(running.url + "/tokenizer_info").json()
    assert (info["add_bos_token"], info["bos_token_id"], info["eos_token_id"]) == (True, BOS, ENDS[0])


@pytest.mark.parametrize("end", ENDS)
def test_ignore_eos_and_min_tokens_apply_to_each_end_token(end: int, serve: Any, imported: LoadedModel) -> None:
    running = serve(imported)
    answer = running.complete("the", max_tokens=4, logit_bias={str(end): 100}, extra_body={"ignore_eos": True})
    assert (answer.choices[0].finish_reason, answer.usage.completion_tokens) == ("length", 4)
    answer = running.complete("the", max_tokens=9, logit_bias={str(end): 100}, extra_body={"min_tokens": 3})
    assert (answer.choices[0].finish_reason, answer.usage.completion_tokens) == ("stop", 4)


def test_the_routes_of_the_harness_add_bos_to_ids_that_are_scored(serve: Any, imported: LoadedModel) -> None:
    url = serve(imported).url + "/lm-eval"
    assert imported.tokenizer is not None

    def tokens(prompt: str) -> list[int]:  # as lm-evaluation-harness asks for them
        body = {"prompt": prompt, "add_special_tokens": False}
        return httpx.post(url + "/tokenize", json=body).json()["tokens"]

    info = httpx.get(url + "/tokenizer_info").json()
    assert tokens("the cat") == list(imported.tokenizer.encode("the cat"))
    assert tokens("the cat")[0] == BOS
    assert (tokens(info["bos_token"]), tokens(info["eos_token"])) == ([BOS], [ENDS[0]])
    body = {"model": "tiny", "prompt": [[BOS, 5], [BOS, 6]], "echo": True, "logprobs": 1, "max_tokens": 1}
    choices = httpx.post(url + "/v1/completions", json=body).json()["choices"]
    for choice, token in zip(choices, (5, 6), strict=True):
        log_probabilities = choice["logprobs"]["token_logprobs"]
        assert len(log_probabilities) == 3  # one generated token
        assert log_probabilities[1] == pytest.approx(expected_logprobs(imported, [BOS, token])[0], abs=1e-4)
