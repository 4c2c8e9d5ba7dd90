"""`POST /v1/chat/completions` with OpenAI's client: the texts and values of completions, in the form of chats."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx
import jsonschema
import openai
import pytest
from serving.conftest import CHAT_TEMPLATE, Served, serving

from gptzoo.checkpoint.model_folder import LoadedModel

MESSAGES = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}]
PROMPT = [*b"system: Be brief.", 256, *b"user: Hi", 256, *b"A:"]  # written by hand from the template


@pytest.fixture(scope="module")
def chatting(loaded: LoadedModel) -> Iterator[Served]:
    with serving(loaded, rows=4, draft=loaded, chat_template=CHAT_TEMPLATE) as running:
        yield running


@pytest.mark.parametrize(
    "fields",
    [
        {"max_tokens": 6},
        {"max_tokens": 9, "n": 3, "temperature": 1.5, "seed": 5},
        {"max_tokens": 9, "temperature": 1, "seed": 1, "top_p": 0.9, "presence_penalty": 1, "logit_bias": {"65": 3}},
        {"max_tokens": 9, "stop": ["\x00"], "temperature": 1, "seed": 2},
        {"max_tokens": 9, "extra_body": {"min_tokens": 3, "top_k": 5, "stop_token_ids": [65]}},
        {"max_tokens": 5, "extra_body": {"strategy": {"type": "beams", "n_beams": 2}}, "temperature": None},
        {"max_tokens": 5, "extra_body": {"strategy": {"type": "speculative"}}},
        {"max_tokens": 8, "extra_body": {"processors": [{"type": "top_k", "k": 3}]}, "temperature": None, "seed": 3},
    ],
)
def test_an_answer_is_the_completion_of_the_rendered_prompt(chatting: Served, fields: dict[str, Any]) -> None:
    expected = chatting.complete(PROMPT, **fields)
    answer = chatting.chat(MESSAGES, **fields)
    assert (answer.object, answer.model) == ("chat.completion", "tiny")
    assert [choice.message.content for choice in answer.choices] == [choice.text for choice in expected.choices]
    assert [choice.finish_reason for choice in answer.choices] == [c.finish_reason for c in expected.choices]
    assert {choice.message.role for choice in answer.choices} == {"assistant"}
    assert answer.usage == expected.usage
    assert answer.usage.prompt_tokens == len(PROMPT)
    pieces: dict[int, str] = dict.fromkeys(range(len(expected.choices)), "")
    roles: dict[int, list[Any]] = {index: [] for index in pieces}
    reasons = {}
    for chunk in chatting.chat(MESSAGES, stream=True, stream_options={"include_usage": True}, **fields):
        assert chunk.object == "chat.completion.chunk"
        for choice in chunk.choices:
            pieces[choice.index] += choice.delta.content or ""
            roles[choice.index].append(choice.delta.role)
            reasons[choice.index] = choice.finish_reason
        usage = chunk.usage
    assert list(pieces.values()) == [choice.text for choice in expected.choices]
    assert reasons == {choice.index: choice.finish_reason for choice in expected.choices}
    assert all(names[0] == "assistant" and set(names[1:]) <= {None} for names in roles.values())
    assert usage == expected.usage


def test_log_probabilities_are_those_of_a_completion(chatting: Served) -> None:
    expected = chatting.complete(PROMPT, max_tokens=5, logprobs=3).choices[0].logprobs
    answer = chatting.chat(MESSAGES, max_tokens=5, logprobs=True, top_logprobs=3).choices[0]
    assert [entry.token for entry in answer.logprobs.content] == expected.tokens
    assert [entry.logprob for entry in answer.logprobs.content] == expected.token_logprobs
    assert b"".join(bytes(entry.bytes) for entry in answer.logprobs.content).decode(errors="replace") == (
        answer.message.content
    )
    for entry, top in zip(answer.logprobs.content, expected.top_logprobs, strict=True):
        assert len(entry.top_logprobs) == 3
        assert {one.token: one.logprob for one in entry.top_logprobs} == {k: top[k] for k in list(top)[:3]}
    streamed = [
        entry
        for chunk in chatting.chat(MESSAGES, max_tokens=5, logprobs=True, top_logprobs=3, stream=True)
        for choice in chunk.choices
        for entry in choice.logprobs.content
    ]
    assert streamed == answer.logprobs.content
    without = chatting.chat(MESSAGES, max_tokens=2, logprobs=True).choices[0].logprobs
    assert [entry.top_logprobs for entry in without.content] == [[], []]
    assert chatting.chat(MESSAGES, max_tokens=2).choices[0].logprobs is None


def test_the_length_is_limited_by_either_name_or_by_the_model(chatting: Served) -> None:
    for name in ("max_tokens", "max_completion_tokens"):
        answer = chatting.chat(MESSAGES, **{name: 3})
        assert (answer.usage.completion_tokens, answer.choices[0].finish_reason) == (3, "length")
    assert chatting.chat(MESSAGES, extra_body={"ignore_eos": True}).usage.total_tokens == 96


def test_an_answer_can_be_sent_back_and_parts_are_joined(chatting: Served) -> None:
    first = chatting.chat(MESSAGES, max_tokens=3).choices[0].message
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    chat = [*MESSAGES, first.model_dump(), {"role": "user", "content": parts}]
    text = first.content.encode()
    prompt = [*PROMPT[:-2], *b"assistant: ", *text, 256, *b"user: a\nb", 256, *b"A:"]
    answer = chatting.chat(chat, max_tokens=4)
    assert answer.choices[0].message.content == chatting.complete(prompt, max_tokens=4).choices[0].text
    assert answer.usage.prompt_tokens == len(prompt)


def test_variables_reach_the_template_and_special_tokens_in_messages_are_text(chatting: Served) -> None:
    extra = {"chat_template_kwargs": {"x": {"a": True}}, "add_generation_prompt": False}
    answer = chatting.chat([{"role": "user", "content": "<|endoftext|>"}], max_tokens=0, extra_body=extra)
    assert answer.usage.prompt_tokens == len([*b"user: <|endoftext|>", 256, *b'{"a": true}'])


def test_a_model_without_a_template_says_what_to_do(plain: Served) -> None:
    with pytest.raises(openai.BadRequestError, match="--chat-template FILE") as raised:
        plain.chat(MESSAGES)
    assert raised.value.param == "messages"
    assert httpx.get(plain.url + "/tokenizer_info").json()["chat_template"] is None


def test_the_tokenizer_shows_its_template_and_parses_special_tokens(chatting: Served) -> None:
    assert httpx.get(chatting.url + "/tokenizer_info").json()["chat_template"] == CHAT_TEMPLATE

    def tokens(**fields: Any) -> list[int]:
        return httpx.post(chatting.url + "/tokenize", json={"prompt": "a<|endoftext|>", **fields}).json()["tokens"]

    assert tokens(parse_special=True) == [97, 256]
    assert tokens() == tokens(parse_special=False) == list(b"a<|endoftext|>")
    assert tokens(prompt="<|endoftext|>", parse_special=False) == list(b"<|endoftext|>")
    assert tokens(prompt="<|endoftext|>", parse_special=True) == tokens(prompt="<|endoftext|>") == [256]


@pytest.mark.parametrize(
    ("fields", "param", "message"),
    [
        ({"messages": []}, "messages", "at least 1"),
        ({"messages": "Hi"}, "messages", "list"),
        ({"messages": [{"role": "user"}]}, "messages", "messages.0.content: is required"),
        ({"messages": [{"role": "user", "content": None}]}, "messages", "a text or a list of text parts"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]},
            "messages",
            "a part of type 'image_url'",
        ),
        ({"messages": [{"role": "user", "content": "a", "nam": "b"}]}, "messages", "did you mean 'name'?"),
        (
            {"messages": [{"role": "assistant", "content": "a", "tool_calls": [{"id": 1}]}]},
            "messages",
            "tool_calls: is not supported",
        ),
        ({"tools": [{"type": "function"}]}, "tools", "is not supported: gptzoo does not offer tools"),
        ({"tool_choice": "auto"}, "tool_choice", "is not supported"),
        ({"functions": []}, "functions", "no field named 'functions'"),
        ({"prompt": "a"}, "prompt", "no field named 'prompt'"),
        ({"echo": True}, "echo", "no field named 'echo'"),
        ({"top_logprobs": 2}, "top_logprobs", "requires logprobs"),
        ({"logprobs": 2}, "logprobs", "boolean"),
        ({"max_tokens": 2, "max_completion_tokens": 3}, "max_tokens", "must be equal to max_completion_tokens"),
        ({"max_completion_tokens": 2, "min_tokens": 3}, "min_tokens", "at most max_tokens, which is 2"),
        ({"max_completion_tokens": 99}, "max_completion_tokens", "the maximum is 96 tokens"),
        ({"messages": [{"role": "user", "content": "a" * 200}]}, "messages", "more than the maximum"),
        ({"n": 129}, "n", "less than or equal to 128"),
        ({"stream_options": {}}, "stream_options", "requires stream"),
        ({"processors": ["top_k"], "temperature": 0.5}, "temperature", "cannot be combined with processors"),
        ({"model": "other"}, "model", "this server has 'tiny'"),
    ],
)
def test_a_wrong_request_names_the_field(chatting: Served, fields: Any, param: str, message: str) -> None:
    body = {"model": "tiny", "messages": MESSAGES, **fields}
    answer = httpx.post(chatting.url + "/v1/chat/completions", json=body)
    assert answer.status_code == (404 if param == "model" else 400)
    assert answer.json()["error"]["param"] == param
    assert message in answer.json()["error"]["message"]


def test_tools_that_ask_for_nothing_are_accepted(chatting: Served) -> None:
    assert chatting.chat(MESSAGES, max_tokens=1, tools=[], tool_choice="none", extra_body={"top_logprobs": None})


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("{{ raise_exception('roles must alternate') }}", "the chat template fails: roles must alternate"),
        ("{% if %}", "the chat template fails: line 1"),
        ("{% for i in range(10**9) %}{% endfor %}", "Range too big"),
        ("{{ '' }}", "an empty text"),
    ],
)
def test_a_failing_template_is_the_error_of_the_request(serve: Any, template: str, message: str) -> None:
    running = serve(chat_template=template)
    with pytest.raises(openai.BadRequestError, match="chat template") as raised:
        running.chat(MESSAGES)
    assert message in str(raised.value)
    assert running.complete("Once", max_tokens=2).choices[0].text


def test_deep_variables_are_refused(chatting: Served) -> None:
    deep: Any = 1
    for _ in range(400):
        deep = [deep]
    text = json.dumps({"model": "tiny", "messages": MESSAGES, "max_tokens": 0, "chat_template_kwargs": {"y": deep}})
    for body in (text, text.replace("[1]", "[" * 400 + "1" + "]" * 400)):
        answer = httpx.post(chatting.url + "/v1/chat/completions", content=body)
        assert answer.status_code in (200, 400)


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"n": 2, "logprobs": True, "top_logprobs": 2},
        {"stream": True, "logprobs": True},
        {"stream": True, "n": 2, "stream_options": {"include_usage": True, "continuous_usage_stats": True}},
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "a"}]}]},
        {"messages": [{"role": "user", "content": 1}]},
        {"messages": []},
        {"tools": [{}]},
        {"tools": []},
        {"tools": None},
        {"tool_choice": "auto"},
        {"logprobs": None},
        {"stop": "a"},
        {"messages": [{"role": "user", "content": "a", "type": "text"}]},
        {"absent": 1},
    ],
)
def test_the_document_is_true_for_chats(chatting: Served, fields: Any) -> None:
    document = httpx.get(chatting.url + "/openapi.json").json()
    body = {"model": "tiny", "messages": MESSAGES, "max_tokens": 2, **fields}
    answer = httpx.post(chatting.url + "/v1/chat/completions", json=body)

    def is_valid(schema: Any, value: Any) -> bool:
        return jsonschema.Draft202012Validator({**schema, "components": document["components"]}).is_valid(value)

    assert is_valid({"$ref": "#/components/schemas/ChatRequest"}, body) == (answer.status_code == 200)
    described = document["paths"]["/v1/chat/completions"]["post"]["responses"][str(answer.status_code)]["content"]
    if not body.get("stream"):
        assert is_valid(described["application/json"]["schema"], answer.json())
        return
    schema = described["text/event-stream"]["schema"]["contentSchema"]
    events = [event.removeprefix("data: ") for event in answer.text.removesuffix("\n\n").split("\n\n")]
    assert events.pop() == "[DONE]"
    assert all(is_valid(schema, json.loads(event)) for event in events)
