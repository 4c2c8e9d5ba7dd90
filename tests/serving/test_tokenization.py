"""`/tokenize`, `/detokenize` and `/tokenizer_info` in vLLM's form."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import pytest

import gptzoo
from gptzoo.checkpoint.model_folder import LoadedModel
from gptzoo.reference import Reference

TEXTS = ["Once upon a time", "naïve café 日本", " a\n\n b", "", "x<|endoftext|>y"]


def post(running: Any, path: str, **body: Any) -> Any:
    answer = httpx.post(running.url + path, json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


def build(kind: str, **options: Any) -> LoadedModel:
    """Return a model with another tokenizer."""
    config = Reference("tokenizer").validate({"type": kind, **options})
    tokenizer = config.build(config.component.fit(config, iter(TEXTS * 9)))
    spec = {"vocab_size": tokenizer.vocab_size, "context_length": 48, "d_model": 16, "n_layers": 1, "n_heads": 2}
    return LoadedModel(gptzoo.build(spec).eval(), tokenizer, Path(kind))


@pytest.mark.parametrize(("kind", "options"), [("byte", {}), ("char", {}), ("bpe", {"vocab_size": 300})])
def test_tokens_are_those_that_a_completion_reads(serve: Any, kind: str, options: Any) -> None:
    running = serve(build(kind, **options))
    for text in TEXTS:
        answer = post(running, "/tokenize", prompt=text, model="tiny", return_token_strs=True)
        tokens = answer["tokens"]
        assert tokens == [*running.loaded.tokenizer.encode(text)]
        assert answer["count"] == len(tokens)
        assert answer["max_model_len"] == 48
        assert post(running, "/detokenize", tokens=tokens, model="tiny") == {"prompt": text}
        assert post(running, "/tokenize", prompt=text, add_special_tokens=False)["token_strs"] is None
        if text:
            echoed = running.complete(text, max_tokens=0, echo=True, logprobs=0)
            assert echoed.usage.prompt_tokens == answer["count"]
            assert echoed.choices[0].logprobs.tokens == answer["token_strs"]


def test_the_tokenizer_is_described(served: Any, serve: Any) -> None:
    info = httpx.get(served.url + "/tokenizer_info").json()
    assert info["tokenizer_class"] == "byte"
    assert (info["vocab_size"], info["model_max_length"]) == (257, 96)
    assert (info["eos_token"], info["eos_token_id"]) == ("<|endoftext|>", 256)
    assert info["bos_token"] is info["pad_token"] is info["chat_template"] is None
    # A harness finds out the id of the token by its name.
    assert post(served, "/tokenize", prompt=info["eos_token"], add_special_tokens=False)["tokens"] == [256]
    assert post(served, "/detokenize", tokens=[256]) == {"prompt": ""}
    without = httpx.get(serve(build("char")).url + "/tokenizer_info").json()
    assert (without["eos_token"], without["eos_token_id"]) == (None, None)


def test_tokens_in_the_middle_of_a_character_become_replacement_characters(served: Any) -> None:
    assert post(served, "/detokenize", tokens=[0xC3, 65]) == {"prompt": "�A"}
    assert post(served, "/detokenize", tokens=[]) == {"prompt": ""}


@pytest.mark.parametrize(
    ("path", "body", "status", "param", "message"),
    [
        ("/tokenize", {}, 400, "prompt", "is required"),
        ("/tokenize", {"prompt": 5}, 400, "prompt", "valid string"),
        ("/tokenize", {"prompt": "a", "promt": "b"}, 400, "promt", "did you mean 'prompt'?"),
        ("/tokenize", {"messages": []}, 400, "messages", "no field named 'messages'"),
        ("/tokenize", {"prompt": "a", "model": "other"}, 404, "model", "this server has 'tiny'"),
        ("/detokenize", {"tokens": [257]}, 400, "tokens", "no token 257, only 0 to 256"),
        ("/detokenize", {"tokens": [-1]}, 400, "tokens", "greater than or equal to 0"),
        ("/detokenize", {"tokens": [10**30]}, 400, "tokens", "only 0 to 256"),
        ("/detokenize", {"tokens": "a"}, 400, "tokens", "a list"),
        ("/detokenize", {"tokens": [1.5]}, 400, "tokens", "integer"),
    ],
)
def test_a_wrong_request_names_the_field(
    plain: Any, path: str, body: Any, status: int, param: str, message: str
) -> None:
    answer = httpx.post(plain.url + path, json=body)
    assert answer.status_code == status
    assert answer.json()["error"]["param"] == param
    assert message in answer.json()["error"]["message"]


def test_text_that_the_vocabulary_cannot_represent_is_refused(serve: Any) -> None:
    running = serve(build("char"))
    answer = httpx.post(running.url + "/tokenize", json={"prompt": "Ω"})
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == "prompt"


def test_the_endpoints_have_the_limits_of_the_others(serve: Any) -> None:
    running = serve(api_key="sesame", max_body=100)
    assert httpx.post(running.url + "/tokenize", json={"prompt": "a"}).status_code == 401
    assert httpx.post(running.url + "/detokenize", json={"tokens": []}).status_code == 401
    assert httpx.get(running.url + "/tokenizer_info").status_code == 401
    key = {"Authorization": "Bearer sesame"}
    assert httpx.get(running.url + "/tokenizer_info", headers=key).status_code == 200
    assert httpx.post(running.url + "/tokenize", json={"prompt": "a" * 100}, headers=key).status_code == 413
    assert httpx.get(running.url + "/tokenize", headers=key).headers["allow"] == "POST"
    assert httpx.post(running.url + "/tokenize", content=b"{", headers=key).status_code == 400
