"""Several models in one server: their names, the same texts as alone, isolated failures, and fair turns."""

from __future__ import annotations

import functools
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from serving.conftest import CHAT_TEMPLATE, SPEC, listening, served_model
from serving.test_isolation import fail_if
from support import with_large_weights

import gptzoo
from gptzoo.checkpoint.model_folder import LoadedModel
from gptzoo.data.tokenizers.char import CharTokenizer
from gptzoo.errors import InputError
from gptzoo.sampling.text_model import TextModel
from gptzoo.serving.app import make_app
from gptzoo.serving.process.turns import Turns

LETTERS = "abcdefghijklmnopqrstuvwxyz ~"


@pytest.fixture(scope="module")
def letters() -> LoadedModel:
    tokenizer = CharTokenizer(CharTokenizer.Config(), list(LETTERS))
    spec = {**SPEC, "vocab_size": tokenizer.vocab_size, "context_length": 48}
    return LoadedModel(with_large_weights(gptzoo.build(spec, seed=5)).eval(), tokenizer, Path("letters"))


@pytest.fixture(scope="module")
def both(loaded: LoadedModel, letters: LoadedModel) -> Iterator[str]:
    turns = Turns()
    models = [
        served_model("letters", letters, turns=turns),
        served_model("bytes", loaded, turns=turns, chat_template=CHAT_TEMPLATE),
    ]
    with listening(make_app(models)) as url:
        yield url


@functools.cache
def client(url: str) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0, timeout=60)


def complete(url: str, model: str, prompt: str = "once", **fields: Any) -> Any:
    return client(url).completions.create(model=model, prompt=prompt, temperature=0, **{"max_tokens": 20, **fields})


def expected_text(loaded: LoadedModel, prompt: str, n: int) -> str:
    model = TextModel(loaded.model, loaded.tokenizer, loaded.folder)
    return str(model.generate(prompt, {"max_new_tokens": n, "processors": [{"type": "temperature", "value": 0}]}))


def test_each_model_answers_under_its_name(both: str, loaded: LoadedModel, letters: LoadedModel) -> None:
    cards = {card.id: card for card in client(both).models.list()}
    assert list(cards) == ["letters", "bytes"]
    assert [card.max_model_len for card in cards.values()] == [48, 96]  # type: ignore[attr-defined]
    assert "no chat template" in cards["letters"].no_chat_reason  # type: ignore[attr-defined]
    assert cards["bytes"].no_chat_reason is None  # type: ignore[attr-defined]
    assert client(both).models.retrieve("bytes") == cards["bytes"]
    texts = {name: complete(both, name) for name in cards}
    assert {name: texts[name].model for name in cards} == {name: name for name in cards}
    assert texts["letters"].choices[0].text == expected_text(letters, "once", 20)
    assert texts["bytes"].choices[0].text == expected_text(loaded, "once", 20)


def test_a_chat_reaches_the_model_that_has_a_template(both: str) -> None:
    messages: Any = [{"role": "user", "content": "hi"}]
    answer = client(both).chat.completions.create(model="bytes", messages=messages, max_tokens=3, temperature=0)
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 3
    with pytest.raises(openai.BadRequestError, match="no chat template"):
        client(both).chat.completions.create(model="letters", messages=messages)


def test_a_request_must_name_a_model_that_there_is(both: str) -> None:
    with pytest.raises(openai.NotFoundError, match=r"no model 'other'; this server has 'letters', 'bytes'"):
        complete(both, "other")
    for method, path, body in (
        ("POST", "/tokenize", {"prompt": "ab"}),
        ("POST", "/detokenize", {"tokens": [1]}),
        ("POST", "/attention", {"prompt": "ab"}),
        ("GET", "/tokenizer_info", None),
    ):
        answer = httpx.request(method, both + path, json=body)
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, "model"), path
        assert "name one of 'letters', 'bytes'" in answer.text
        named = both + path + ("?model=letters" if body is None else "")
        answer = httpx.request(method, named, json=None if body is None else {**body, "model": "letters"})
        assert answer.status_code == 200, path
    assert httpx.post(both + "/tokenize", json={"prompt": "ab", "model": "bytes"}).json()["tokens"] == [97, 98]
    assert httpx.get(both + "/tokenizer_info?model=bytes").json()["vocab_size"] == 257
    assert httpx.get(both + "/tokenizer_info?model=other").status_code == 404


@pytest.mark.slow
def test_models_that_answer_at_the_same_time_give_the_same_texts_as_alone(
    both: str, loaded: LoadedModel, letters: LoadedModel
) -> None:
    expected = {"bytes": expected_text(loaded, "once", 30), "letters": expected_text(letters, "once", 30)}
    found: list[tuple[str, str]] = []

    def ask(name: str) -> None:
        found.append((name, complete(both, name, max_tokens=30).choices[0].text))

    threads = [threading.Thread(target=ask, args=(name,)) for name in ("bytes", "letters") * 3]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(found) == sorted([*expected.items()] * 3)


def test_a_model_that_fails_does_not_disturb_the_others(loaded: LoadedModel, letters: LoadedModel) -> None:
    broken = fail_if(loaded, lambda tokens: True)
    turns = Turns()
    models = [served_model("broken", broken, turns=turns), served_model("letters", letters, turns=turns)]
    expected = expected_text(letters, "once", 20)
    with listening(make_app(models)) as url:
        assert httpx.get(url + "/health").json() == {"status": "ok", "open": 0}
        for _ in range(2):
            with pytest.raises(openai.InternalServerError):
                complete(url, "broken")
            assert complete(url, "letters").choices[0].text == expected
        health = httpx.get(url + "/health")
        assert health.status_code == 503
        assert "the model 'broken' fails" in health.text


def test_two_models_cannot_have_one_name(loaded: LoadedModel) -> None:
    with pytest.raises(InputError, match=r"2 models have the name 'a'.*--name a-a --name a-b"):
        make_app([served_model("a", loaded), served_model("b", loaded), served_model("a", loaded)])


def test_turns_pass_in_the_order_in_which_threads_ask() -> None:
    turns = Turns()
    order: list[int] = []

    def take(number: int) -> None:
        with turns:
            order.append(number)

    with turns:
        threads = [threading.Thread(target=take, args=(number,)) for number in range(8)]
        for n, thread in enumerate(threads, 1):
            thread.start()
            while len(turns._waiting) < n:
                thread.join(0.001)
        # One that asks again at once does not overtake those that wait.
        threads.append(threading.Thread(target=take, args=(8,)))
    threads[-1].start()
    for thread in threads:
        thread.join()
    assert order == list(range(9))
    with turns:  # it is free again
        order.append(9)
    assert order[-1] == 9
