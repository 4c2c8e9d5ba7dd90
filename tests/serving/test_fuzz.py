"""Random bodies, valid and almost valid: each gets an answer that is JSON, and none of them is a server error."""

from __future__ import annotations

import http.client
import json
import urllib.parse
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from serving.conftest import CHAT_TEMPLATE, Served, serving

from gptzoo.checkpoint.model_folder import LoadedModel

GUARD_SECONDS = 60  # against hanging only
MAX_EXAMPLES = {"quick": 80, "slow": 1500}


@pytest.fixture(scope="module")
def target(loaded: LoadedModel) -> Iterator[Served]:
    with serving(loaded, rows=4, draft=loaded, chat_template=CHAT_TEMPLATE) as running:
        yield running


def refuse_constant(name: str) -> Any:
    raise AssertionError(f"{name} is not JSON")


def parse_strictly(data: bytes) -> Any:
    return json.loads(data.decode("utf-8"), parse_constant=refuse_constant)


def check_answer(status: int, content_type: str | None, data: bytes) -> None:
    """Check that an answer is a completion, a stream of chunks, or an error in the documented form."""
    assert status < 500, data
    if content_type is not None and content_type.startswith("text/event-stream"):
        events = data.decode("utf-8").split("\n\n")
        assert events[-1] == ""
        for event in events[:-1]:
            assert event.startswith("data: ")
            if event != "data: [DONE]":
                chunk = parse_strictly(event.removeprefix("data: ").encode())
                assert "choices" in chunk or chunk["error"]["type"] == "invalid_request_error"
        return
    assert content_type == "application/json"
    answer = parse_strictly(data)
    if status == 200:
        assert "error" not in answer
        return
    assert answer.keys() == {"error"}
    assert answer["error"].keys() == {"message", "type", "param", "code"}
    assert answer["error"]["message"]
    assert answer["error"]["type"] == "invalid_request_error"


def post(running: Served, body: bytes, path: str = "/v1/completions") -> None:
    """Post a body and check the answer."""
    port = urllib.parse.urlsplit(running.url).port
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=GUARD_SECONDS)
    try:
        connection.request("POST", path, body, {"Content-Type": "application/json"})
        response = connection.getresponse()
        check_answer(response.status, response.getheader("content-type"), response.read())
    finally:
        connection.close()


# ---------------------------------------------------------------------- JSON texts

LONE_SURROGATES = st.characters(min_codepoint=0xD800, max_codepoint=0xDFFF)
TEXTS = st.one_of(
    st.text(max_size=8),
    st.text(st.one_of(st.characters(), LONE_SURROGATES), max_size=4),
    st.sampled_from(["", "\x00", "\ud800", "a" * 200, "é😀", "\udc80b", "[a-z]{3}"]),
)
NUMBERS = st.one_of(
    st.integers(-3, 300),
    st.integers(),
    st.sampled_from([2**31, 2**53, 2**63, -(2**63) - 1, 2**64, 10**400, -(10**30)]),
    st.floats(allow_nan=False, allow_infinity=False),
)
RAW_NUMBERS = st.sampled_from(
    ["1e400", "-1e400", "NaN", "Infinity", "-Infinity", "1e-400", "-0.0", "1E5", "0.0", "1.0"]
)


class Raw(str):
    """JSON text that `dump` copies."""


SCALARS = st.one_of(st.none(), st.booleans(), NUMBERS, TEXTS, RAW_NUMBERS.map(Raw))
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(TEXTS, inner, max_size=3)),
    max_leaves=8,
)


def dump(value: Any) -> str:
    """Return JSON text. A list of pairs with the tag "pairs" is an object, which may have a key twice."""
    if isinstance(value, Raw):
        return str(value)
    if isinstance(value, Pairs):
        return "{" + ",".join(f"{dump(key)}:{dump(entry)}" for key, entry in value.entries) + "}"
    if isinstance(value, dict):
        return "{" + ",".join(f"{dump(key)}:{dump(entry)}" for key, entry in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ",".join(map(dump, value)) + "]"
    return json.dumps(value)


class Pairs:
    """The entries of a JSON object, in order."""

    def __init__(self, entries: list[tuple[str, Any]]):
        self.entries = entries

    def __repr__(self) -> str:
        return dump(self)


def objects(**fields: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.fixed_dictionaries({}, optional=fields)


TOKENS = st.lists(st.integers(0, 256), min_size=1, max_size=6)
PROBABILITIES = st.one_of(st.floats(0, 1), st.sampled_from([1, 1e-300, 5e-324]))
PATTERNS = st.one_of(
    TEXTS,
    st.sampled_from(
        ["(", "[0-9]+", "a{9999}", "(a{99}){99}", "(?=a)", "\\d", "^a$", "[^a]*", "(?i)ß", "\\p{L}+", "\\1"]
    ),
)
SCHEMAS = st.recursive(
    st.one_of(
        st.sampled_from(["string", "integer", "number", "boolean", "null", "nothing"]).map(lambda name: {"type": name}),
        st.fixed_dictionaries({"pattern": PATTERNS}),
        st.fixed_dictionaries({"const": SCALARS}),
        st.fixed_dictionaries({"enum": st.lists(SCALARS, max_size=3)}),
        st.fixed_dictionaries({}, optional={"minLength": NUMBERS, "maxLength": NUMBERS, "type": st.just("string")}),
        st.fixed_dictionaries({}, optional={"minimum": NUMBERS, "maximum": NUMBERS, "type": st.just("integer")}),
        st.fixed_dictionaries({"$ref": st.sampled_from(["#", "#/$defs/a", "http://localhost/x", "\ud800"])}),
    ),
    lambda inner: st.one_of(
        st.fixed_dictionaries(
            {"type": st.just("object")},
            optional={
                "properties": st.dictionaries(TEXTS, inner, max_size=2),
                "required": st.lists(TEXTS, max_size=2),
                "additionalProperties": inner,
                "minProperties": st.integers(0, 3),
            },
        ),
        st.fixed_dictionaries({"type": st.just("array"), "items": inner}, optional={"minItems": st.integers(0, 9)}),
        st.lists(inner, max_size=2).map(lambda schemas: {"anyOf": schemas}),
        st.lists(inner, max_size=2).map(lambda schemas: {"allOf": schemas}),
    ),
    max_leaves=4,
)
OPTIONS: dict[str, dict[str, st.SearchStrategy[Any]]] = {
    "banned_tokens": {"ids": TOKENS, "texts": st.lists(TEXTS, max_size=2)},
    "forced_tokens": {"ids": TOKENS, "text": TEXTS},
    "frequency_penalty": {"value": st.floats(-1e4, 1e4)},
    "json_schema": {"definition": SCHEMAS, "whitespace": st.booleans()},
    "logit_bias": {"biases": st.dictionaries(st.integers(0, 300).map(str), st.floats(-1e4, 1e4), max_size=3)},
    "min_p": {"p": PROBABILITIES},
    "no_repeat_ngram": {"size": st.integers(1, 2**70)},
    "presence_penalty": {"value": st.floats(-1e4, 1e4)},
    "regex": {"pattern": PATTERNS},
    "repetition_penalty": {"value": st.floats(1e-4, 1e4)},
    "temperature": {"value": st.floats(0, 1e300)},
    "top_k": {"k": st.integers(1, 2**70)},
    "top_p": {"p": PROBABILITIES},
    "typical": {"p": PROBABILITIES},
}


def processors() -> st.SearchStrategy[Any]:
    """Return a strategy of names, valid processors, and processors with one option of any value."""
    valid = [st.fixed_dictionaries({"type": st.just(name)}, optional=options) for name, options in OPTIONS.items()]
    almost_valid = [
        st.fixed_dictionaries({"type": st.just(name)}, optional=dict.fromkeys(options, VALUES))
        for name, options in OPTIONS.items()
    ]
    names = st.sampled_from([*OPTIONS, "nothing", "\ud800"])
    return st.one_of(names, *valid, *valid, *almost_valid)


FIELDS: dict[str, st.SearchStrategy[Any]] = {
    "prompt": st.one_of(
        TEXTS, TOKENS, st.lists(TEXTS, max_size=3), st.lists(TOKENS, max_size=3), st.lists(st.one_of(TEXTS, TOKENS))
    ),
    "max_tokens": st.integers(0, 5),
    "min_tokens": st.integers(0, 5),
    "n": st.integers(1, 3),
    "best_of": st.integers(1, 4),
    "temperature": st.one_of(st.floats(0, 2), st.sampled_from([0, 1, 1e-300])),
    "top_p": st.one_of(st.floats(0, 1), st.sampled_from([0, 1, 1e-300])),
    "top_k": st.integers(-1, 300),
    "min_p": st.floats(0, 1),
    "repetition_penalty": st.floats(0.5, 2),
    "presence_penalty": st.floats(-2, 2),
    "frequency_penalty": st.floats(-2, 2),
    "logit_bias": st.dictionaries(st.integers(0, 300).map(str), st.floats(-100, 100), max_size=3),
    "stop": st.one_of(TEXTS, st.lists(TEXTS, max_size=4)),
    "stop_token_ids": st.lists(st.integers(0, 300), max_size=3),
    "include_stop_str_in_output": st.booleans(),
    "ignore_eos": st.booleans(),
    "stop_tokens": st.lists(st.integers(0, 300), max_size=3),
    "seed": st.integers(),
    "stream": st.booleans(),
    "stream_options": objects(include_usage=st.booleans(), continuous_usage_stats=st.booleans()),
    "logprobs": st.integers(0, 20),
    "echo": st.booleans(),
    "suffix": st.sampled_from(["", None, "x"]),
    "user": TEXTS,
    "response_format": st.one_of(
        st.sampled_from([{"type": "text"}, {"type": "json_object"}]),
        st.fixed_dictionaries({"type": st.just("json_schema"), "json_schema": objects(schema=SCHEMAS, name=TEXTS)}),
    ),
    "processors": st.lists(processors(), max_size=3),
    "strategy": st.one_of(
        st.fixed_dictionaries(
            {"type": st.just("beams")},
            optional={"n_beams": st.integers(1, 5), "length_penalty": st.floats(-10, 10)},
        ),
        st.fixed_dictionaries(
            {"type": st.just("contrastive")}, optional={"alpha": st.floats(0, 1), "n_candidates": st.integers(1, 5)}
        ),
        st.fixed_dictionaries({"type": st.just("speculative")}, optional={"n_ahead": st.integers(1, 5)}),
    ),
}
MESSAGE = objects(
    role=st.one_of(st.sampled_from(["user", "system", "assistant", "tool"]), TEXTS),
    content=st.one_of(TEXTS, st.lists(objects(type=st.sampled_from(["text", "image_url"]), text=TEXTS), max_size=2)),
    name=TEXTS,
    tool_calls=st.sampled_from([None, [], [{}]]),
)
CHAT_FIELDS: dict[str, st.SearchStrategy[Any]] = {
    **{
        name: field for name, field in FIELDS.items() if name not in ("prompt", "best_of", "echo", "suffix", "logprobs")
    },
    "max_completion_tokens": st.integers(0, 5),
    "logprobs": st.booleans(),
    "top_logprobs": st.integers(0, 20),
    "add_generation_prompt": st.booleans(),
    "chat_template_kwargs": st.dictionaries(st.sampled_from(["x", "messages", "self", "eos_token", ""]), VALUES),
    "tools": st.sampled_from([None, [], [{}], 1]),
    "tool_choice": st.sampled_from([None, "none", "auto"]),
}
SHORT_FORMS = {
    "temperature",
    "top_p",
    "top_k",
    "min_p",
    "repetition_penalty",
    "presence_penalty",
    "frequency_penalty",
    "logit_bias",
    "response_format",
}
NAMES = st.sampled_from([*FIELDS, "unknown", "\ud800", ""])


@st.composite
def bodies(draw: st.DrawFn) -> bytes:
    """Draw the JSON text of a request: a few fields, then some wrong values and keys that occur twice."""
    chosen = draw(st.lists(st.sampled_from(list(FIELDS)), max_size=5, unique=True))
    if "processors" in chosen:  # a chain of processors excludes these fields
        chosen = [name for name in chosen if name not in SHORT_FORMS]
    entries: list[tuple[str, Any]] = [("model", "tiny"), *((name, draw(FIELDS[name])) for name in chosen)]
    if draw(st.booleans()):
        for name in draw(st.lists(NAMES, max_size=2)):
            entries.append((name, draw(st.one_of(VALUES, FIELDS.get(name, VALUES)))))
    return dump(Pairs(entries)).encode("utf-8")


@st.composite
def chat_bodies(draw: st.DrawFn) -> bytes:
    """Draw the JSON text of a chat: messages and a few fields, and sometimes a wrong value."""
    chosen = draw(st.lists(st.sampled_from(list(CHAT_FIELDS)), max_size=4, unique=True))
    if "processors" in chosen:
        chosen = [name for name in chosen if name not in SHORT_FORMS]
    good = st.fixed_dictionaries({"role": st.sampled_from(["user", "assistant"]), "content": TEXTS})
    messages = draw(st.one_of(st.lists(good, min_size=1, max_size=3), st.lists(MESSAGE, max_size=3), VALUES))
    entries: list[tuple[str, Any]] = [("model", "tiny"), ("messages", messages)]
    if not {"max_tokens", "max_completion_tokens"} & set(chosen):
        entries.append(("max_tokens", 4))
    entries += [(name, draw(CHAT_FIELDS[name])) for name in chosen]
    if draw(st.integers(0, 3)) == 0:
        entries.append((draw(st.sampled_from([*CHAT_FIELDS, "functions"])), draw(VALUES)))
    return dump(Pairs(entries)).encode("utf-8")


@st.composite
def processor_bodies(draw: st.DrawFn) -> bytes:
    """Draw the JSON text of a request with a chain of one or two logits processors, mostly valid ones."""
    chain = draw(st.lists(processors(), min_size=1, max_size=2))
    return dump(
        {"model": "tiny", "prompt": "a", "max_tokens": 3, "stream": draw(st.booleans()), "processors": chain}
    ).encode()


@st.composite
def tokenizer_bodies(draw: st.DrawFn) -> tuple[str, bytes]:
    """Draw a path and the JSON text of a request to the tokenizer."""
    flags = {
        "add_special_tokens": st.one_of(st.booleans(), VALUES),
        "return_token_strs": st.one_of(st.booleans(), VALUES),
        "parse_special": st.one_of(st.booleans(), VALUES),
    }
    if draw(st.booleans()):
        return "/tokenize", dump(draw(objects(prompt=st.one_of(TEXTS, VALUES), model=TEXTS, **flags))).encode()
    return "/detokenize", dump(draw(objects(tokens=st.one_of(TOKENS, VALUES), x=VALUES))).encode()


def check_that_bodies_are_answered(running: Served, n_examples: int) -> None:
    fuzzed = settings(
        max_examples=n_examples,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )

    @fuzzed
    @given(st.one_of(bodies(), processor_bodies()))
    def check(body: bytes) -> None:
        post(running, body)

    @fuzzed
    @given(tokenizer_bodies())
    def check_tokenizer(request: tuple[str, bytes]) -> None:
        path, body = request
        post(running, body, path)

    @fuzzed
    @given(chat_bodies())
    def check_chat(body: bytes) -> None:
        post(running, body, "/v1/chat/completions")

    check()
    check_tokenizer()
    check_chat()
    assert running.complete().choices[0].text
    assert running.scheduler.failure is None


def test_random_bodies_are_answered(target: Served) -> None:
    check_that_bodies_are_answered(target, MAX_EXAMPLES["quick"])


@pytest.mark.slow
def test_many_random_bodies_are_answered(target: Served) -> None:
    check_that_bodies_are_answered(target, MAX_EXAMPLES["slow"])
