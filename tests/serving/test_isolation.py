"""A request that fails gets an answer with an error, and the server goes on with the others and with later ones."""

from __future__ import annotations

import json
import re
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import openai
import pytest
import torch
from click.testing import CliRunner
from serving.conftest import SPEC
from serving.test_limits import wait_until
from support import admit, with_large_weights
from torch import Tensor

import gptzoo
from gptzoo import registry
from gptzoo.checkpoint.model_folder import LoadedModel, save_model
from gptzoo.cli import main
from gptzoo.serving.completion import Completion

FAILING = {"processors": ["fails_at_third_token"]}
BAD = "~"  # a prompt with this character makes the model or the processor fail


class FailsAtThirdToken(gptzoo.LogitsProcessor):
    """Raises an exception at the third new token."""

    name = "fails_at_third_token"

    def __call__(self, logits: Tensor, sequences: Any) -> Tensor:
        if any(sequence.n_new == 2 for sequence in sequences):
            raise RuntimeError("a mistake")
        return logits


@pytest.fixture(autouse=True)
def plugin() -> Iterator[None]:
    with registry.use(registry.discover("none")):
        admit(FailsAtThirdToken)
        yield


def build_loaded(loaded: LoadedModel, **fields: Any) -> LoadedModel:
    return LoadedModel(with_large_weights(gptzoo.build({**SPEC, **fields}), 4).eval(), loaded.tokenizer, loaded.folder)


def fail_if(loaded: LoadedModel, condition: Any) -> LoadedModel:
    """Return a model that raises an exception if the condition on its input tokens is true."""
    broken = build_loaded(loaded)

    def check(module: Any, arguments: Any) -> None:
        if condition(arguments[0]):
            raise RuntimeError("out of memory, for example")

    broken.model.register_forward_pre_hook(check)
    return broken


def spoil_logits(loaded: LoadedModel, tokens: Any, value: float, by: str = "set", **fields: Any) -> LoadedModel:
    """Return a model with other logits of `tokens` wherever it reads the bad character, or everywhere."""
    spoiled = build_loaded(loaded, **fields)
    head = spoiled.model.head

    def spoil(module: Any, arguments: Any, output: Any) -> Any:
        output = output.clone()
        output[..., tokens] = value if by == "set" else output[..., tokens] + value
        return output

    head.register_forward_hook(spoil)
    return spoiled


def health(running: Any) -> int:
    try:
        return urllib.request.urlopen(running.url + "/health", timeout=30).status
    except urllib.error.HTTPError as error:
        return error.code


def test_a_filter_with_the_smallest_number_is_answered(plain: Any) -> None:
    greedy = plain.complete().choices[0].text
    assert plain.complete(temperature=1.0, top_p=1e-300).choices[0].text == greedy
    typical = {"processors": [{"type": "typical", "p": 1e-300}]}
    assert plain.complete(temperature=None, extra_body=typical).choices[0].text
    assert health(plain) == 200


@pytest.mark.parametrize("stream", [False, True])
def test_a_processor_that_fails_ends_only_its_request(plain: Any, stream: bool) -> None:
    expected = plain.complete(max_tokens=60, temperature=1.0, seed=3).choices[0].text

    def ask(fails: bool) -> str:
        if not fails:
            return plain.complete(max_tokens=60, temperature=1.0, seed=3).choices[0].text
        with pytest.raises(openai.APIError) as caught:
            list(plain.complete(temperature=None, seed=3, extra_body=FAILING, stream=stream))
        assert "'fails_at_third_token' at new token 3: RuntimeError: a mistake" in caught.value.body["message"]
        assert caught.value.type == "server_error"
        return expected

    with ThreadPoolExecutor(6) as pool:
        assert [*pool.map(ask, [False, True, False, True, True, False])] == [expected] * 6
    assert health(plain) == 200


def test_a_prompt_that_makes_the_model_fail_ends_only_its_request(serve: Any, loaded: LoadedModel) -> None:
    running = serve(fail_if(loaded, lambda tokens: bool((tokens == ord(BAD)).any())))
    options = {"max_tokens": 60, "temperature": 1.0, "seed": 3, "logit_bias": {str(ord(BAD)): -100}}
    expected = running.complete(**options).choices[0].text

    def ask(prompt: str) -> str:
        if BAD not in prompt:
            return running.complete(prompt, **options).choices[0].text
        with pytest.raises(openai.InternalServerError):
            running.complete(prompt, **options)
        return expected

    with ThreadPoolExecutor(4) as pool:
        assert [*pool.map(ask, ["Once", "a~", "Once", "a~b~"])] == [expected] * 4
    assert running.complete(**options).choices[0].text == expected
    assert health(running) == 200


def test_a_failure_while_decoding_ends_only_the_request_that_causes_it(serve: Any, loaded: LoadedModel) -> None:
    failing = fail_if(loaded, lambda tokens: tokens.shape[1] == 1 and bool((tokens == ord(BAD)).any()))
    running = serve(failing, rows=4)
    options = {"max_tokens": 60, "temperature": 1.0, "seed": 3, "logit_bias": {str(ord(BAD)): -100}}
    expected = running.complete(**options).choices[0].text

    def ask(fails: bool) -> str:
        if not fails:
            return running.complete(**options).choices[0].text
        forced = {"type": "forced_tokens", "text": f"abcdefgh{BAD}c"}
        with pytest.raises(openai.InternalServerError) as caught:
            running.complete(temperature=None, max_tokens=60, extra_body={"processors": [forced]})
        assert caught.value.status_code == 500
        return expected

    with ThreadPoolExecutor(4) as pool:
        assert [*pool.map(ask, [False, False, True, False] * 3)] == [expected] * 12
    assert health(running) == 200
    wait_until(lambda: running.scheduler.n_open == 0)


@pytest.mark.parametrize("strategy", [None, {"type": "beams"}, {"type": "contrastive"}])
def test_health_tells_whether_the_model_works(serve: Any, loaded: LoadedModel, strategy: Any) -> None:
    works = [True]
    running = serve(fail_if(loaded, lambda tokens: not works[0]))
    expected = running.complete().choices[0].text
    assert health(running) == 200
    works[0] = False
    for _ in range(3):
        with pytest.raises(openai.InternalServerError):
            running.complete(temperature=None, extra_body={"strategy": strategy})
        wait_until(lambda: health(running) == 503)
    works[0] = True
    assert running.complete().choices[0].text == expected
    assert health(running) == 200


def test_logits_that_are_not_finite_are_a_server_error(serve: Any, loaded: LoadedModel) -> None:
    running = serve(spoil_logits(loaded, [5], float("nan")))
    for strategy in (None, {"type": "beams"}, {"type": "contrastive"}):
        with pytest.raises(openai.InternalServerError) as caught:
            running.complete(temperature=None, extra_body={"strategy": strategy})
        assert "logits of the model for new token 1, after 4 tokens, have NaN" in caught.value.body["message"]


def test_the_scores_of_a_prompt_with_logits_that_are_not_finite_are_a_server_error(
    serve: Any, loaded: LoadedModel
) -> None:
    running = serve(spoil_logits(loaded, [5], float("nan")))
    for stream in (False, True):
        with pytest.raises(openai.APIError) as caught:
            list(running.complete(max_tokens=0, echo=True, logprobs=2, stream=stream))
        assert "the logits of the model for token 2 of the prompt, after 1 tokens, have NaN" in str(caught.value.body)
        assert caught.value.body["type"] == "server_error"
    assert health(running) == 200


def test_log_probabilities_of_tokens_that_the_model_excludes_are_null(serve: Any, loaded: LoadedModel) -> None:
    running = serve(spoil_logits(loaded, [ord("c")], float("-inf")))
    body = {"model": "tiny", "prompt": "Once", "max_tokens": 0, "echo": True, "logprobs": 2}
    for stream in (False, True):
        request = urllib.request.Request(
            running.url + "/v1/completions", data=json.dumps({**body, "stream": stream}).encode()
        )
        text = urllib.request.urlopen(request, timeout=30).read().decode()
        assert "Infinity" not in text
        values = re.search(r'"token_logprobs":\[null,(-[0-9.]+),null,(-[0-9.]+)\]', text.replace(" ", ""))
        assert values, text


def test_spare_token_ids_are_not_generated_and_not_listed(serve: Any, loaded: LoadedModel) -> None:
    running = serve(spoil_logits(loaded, slice(257, None), 100.0, by="add", vocab_size=300))
    banned = {"processors": [{"type": "banned_tokens", "texts": ["zq"]}]}
    answer = running.complete(max_tokens=40, logprobs=5, temperature=None, seed=1, extra_body=banned)
    assert answer.choices[0].finish_reason in ("length", "stop")
    scored = running.complete(max_tokens=0, echo=True, logprobs=5)
    assert len(scored.choices[0].logprobs.token_logprobs) == 4
    for strategy in ({"type": "beams"}, {"type": "contrastive"}):
        assert running.complete(temperature=None, extra_body={"strategy": strategy}).choices[0].text
    with pytest.raises(openai.BadRequestError, match="280 is a spare id"):
        running.complete([65, 280], echo=True)


def test_a_response_that_fails_on_the_event_loop_is_answered(plain: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: Any) -> None:
        raise KeyError("a mistake")

    with monkeypatch.context() as patched:
        patched.setattr(Completion, "_add_event", fail)
        with pytest.raises(openai.InternalServerError):
            plain.complete()
    assert plain.complete().choices[0].text


def test_the_command_line_reports_logits_that_are_not_finite(tmp_path: Path, loaded: LoadedModel) -> None:
    model = gptzoo.build(SPEC)
    with torch.no_grad():
        next(iter(model.parameters())).fill_(float("nan"))
    save_model(tmp_path / "model", model, loaded.tokenizer)
    for options in ([], ["--json"], ["--beams", "2"], ["--contrastive", "0.5"], ["--temperature", "0"]):
        result = CliRunner().invoke(main, ["sample", str(tmp_path / "model"), "--prompt", "Once", *options])
        assert result.exit_code == 2
        assert "logits of the model for new token 1" in result.stderr


def test_the_command_line_reports_a_processor_that_fails(tmp_path: Path, loaded: LoadedModel) -> None:
    save_model(tmp_path / "model", loaded.model, loaded.tokenizer)
    options = ["--prompt", "Once", "--processor", "fails_at_third_token"]
    result = CliRunner().invoke(main, ["sample", str(tmp_path / "model"), *options])
    assert result.exit_code == 2
    assert "'fails_at_third_token' at new token 3: RuntimeError: a mistake" in result.stderr
