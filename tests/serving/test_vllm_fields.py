"""The fields of vLLM's completions API, in complete and streamed responses and with every strategy."""

from __future__ import annotations

from typing import Any

import openai
import pytest

EOT = 256
END = {"logit_bias": {"256": 60}}  # the end-of-text token is far more likely than any other
STRATEGIES: list[dict[str, Any]] = [
    {},
    {"strategy": {"type": "speculative", "n_ahead": 3}},
    {"strategy": {"type": "beams", "n_beams": 2}},
    {"strategy": {"type": "contrastive"}},
]


def ask(served: Any, prompt: Any = "Once", **fields: Any) -> Any:
    stream = fields.pop("stream", None)  # the client has to know
    return served.complete(prompt, temperature=None, stream=stream, extra_body={"seed": 3, "max_tokens": 12, **fields})


def streamed(served: Any, prompt: Any = "Once", **fields: Any) -> tuple[dict[int, Any], list[Any]]:
    """Return the choices of a stream, each as text, entries of log-probabilities and finish reason, and its chunks."""
    chunks = [*ask(served, prompt, stream=True, **fields)]
    choices: dict[int, Any] = {}
    for chunk in chunks:
        for choice in chunk.choices:
            text, tokens, _ = choices.get(choice.index, ("", [], None))
            new = [] if choice.logprobs is None else choice.logprobs.tokens
            choices[choice.index] = (text + choice.text, tokens + new, choice.finish_reason)
    return choices, chunks


def assert_stream_is_the_same(served: Any, answer: Any, prompt: Any = "Once", **fields: Any) -> None:
    choices, _ = streamed(served, prompt, **fields)
    expected = {
        choice.index: (choice.text, [] if choice.logprobs is None else choice.logprobs.tokens, choice.finish_reason)
        for choice in answer.choices
    }
    assert choices == expected


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("n_min", [0, 1, 7, 12])
def test_a_text_has_at_least_min_tokens_before_it_ends(served: Any, strategy: Any, n_min: int) -> None:
    fields = {**END, **strategy, "min_tokens": n_min, "logprobs": 0}
    if n_min == 0:
        fields.pop("min_tokens")
    answer = ask(served, **fields)
    (choice,) = answer.choices
    n_stop = n_min < 12
    assert answer.usage.completion_tokens == n_min + n_stop
    assert len(choice.logprobs.tokens) == n_min + n_stop
    assert choice.finish_reason == ("stop" if n_min < 12 else "length")
    assert_stream_is_the_same(served, answer, **fields)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_text_goes_on_after_the_end_of_text_token_if_it_is_ignored(served: Any, strategy: Any) -> None:
    ended = ask(served, **END, **strategy)
    assert (ended.usage.completion_tokens, ended.choices[0].finish_reason) == (1, "stop")
    fields = {**END, **strategy, "ignore_eos": True, "logprobs": 0}
    answer = ask(served, **fields)
    assert (answer.usage.completion_tokens, answer.choices[0].finish_reason) == (12, "length")
    tokens = answer.choices[0].logprobs.tokens
    assert tokens[:2] == ["", ""]
    assert tokens == [""] * 12 or "contrastive" in str(strategy)  # which avoids repetition
    assert_stream_is_the_same(served, answer, **fields)
    listed = ask(served, **END, **strategy, ignore_eos=True, stop_token_ids=[EOT])
    assert (listed.usage.completion_tokens, listed.choices[0].finish_reason) == (1, "stop")


@pytest.mark.parametrize("name", ["stop_token_ids", "stop_tokens"])
def test_stop_token_ids_end_a_text_like_stop_tokens(served: Any, name: str) -> None:
    fields = {"processors": [{"type": "forced_tokens", "text": "one, two"}], name: [ord(",")]}
    for prompt, n in (("Once", 1), (["Once", "A"], 2)):
        answer = ask(served, prompt, n=n, **fields)
        assert [(choice.text, choice.finish_reason) for choice in answer.choices] == [("one", "stop")] * n * n
        assert answer.usage.completion_tokens == 4 * n * n
        assert_stream_is_the_same(served, answer, prompt, n=n, **fields)
    both = ask(served, stop_token_ids=[ord("w")], stop_tokens=[ord(" ")], processors=fields["processors"])
    assert both.choices[0].text == "one,"


@pytest.mark.parametrize(
    ("stop", "text", "included"),
    [
        ({"stop": "two"}, "one, ", "one, two"),
        ({"stop": ["ree", ", t"]}, "one", "one, t"),
        ({"stop_token_ids": [ord("w")]}, "one, t", "one, tw"),
        ({"stop": ["é"]}, "one, two caf", "one, two café"),
    ],
)
def test_the_stop_string_or_token_is_part_of_the_text_if_the_request_asks_for_it(
    served: Any, stop: Any, text: str, included: str
) -> None:
    forced = {"processors": [{"type": "forced_tokens", "text": "one, two café three"}], "max_tokens": 30, "logprobs": 1}
    for echo in (False, True):
        for include, expected in ((None, text), (False, text), (True, included)):
            fields = {**forced, **stop, "include_stop_str_in_output": include, "echo": echo, "n": 2}
            answer = ask(served, **fields)
            for choice in answer.choices:
                prompt = "Once" if echo else ""
                assert (choice.text, choice.finish_reason) == (prompt + expected, "stop")
                tokens, offsets = choice.logprobs.tokens, choice.logprobs.text_offset
                for token, offset in zip(tokens, offsets, strict=True):
                    if not token.startswith("bytes:") and offset < len(choice.text):
                        assert choice.text[offset:].startswith(token)
            assert_stream_is_the_same(served, answer, **fields)
    best = ask(served, **{**forced, **stop}, include_stop_str_in_output=True, best_of=3)
    assert best.choices[0].text == included


def test_a_stop_string_that_is_complete_before_the_minimum_does_not_end_the_text(served: Any) -> None:
    forced = {"processors": [{"type": "forced_tokens", "text": "ab, ab, ab, ab"}], "max_tokens": 14}
    for n_min, expected in ((0, ""), (1, ""), (2, "ab, "), (5, "ab, "), (6, "ab, ab, "), (9, "ab, ab, ")):
        answer = ask(served, **forced, stop="ab", min_tokens=n_min)
        assert answer.choices[0].text == expected
        assert_stream_is_the_same(served, answer, **forced, stop="ab", min_tokens=n_min)


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("echo", [False, True])
def test_each_chunk_has_the_tokens_of_its_text_so_far(served: Any, strategy: Any, echo: bool) -> None:
    prompts, n = ["Once", "A longer prompt"], 1 if "contrastive" in str(strategy) else 2
    options = {"include_usage": True, "continuous_usage_stats": True}
    fields = {**strategy, "n": n, "echo": echo, "logprobs": 0}
    _, chunks = streamed(served, prompts, stream_options=options, **fields)
    n_tokens = dict.fromkeys(range(2 * n), 0)
    for chunk in chunks[:-1]:
        (choice,) = chunk.choices
        prompt = prompts[choice.index // n]
        n_echoed = len(prompt) if echo and n_tokens[choice.index] == 0 else 0
        n_tokens[choice.index] += len(choice.logprobs.tokens) - n_echoed
        usage = chunk.usage
        assert (usage.prompt_tokens, usage.completion_tokens) == (len(prompt), n_tokens[choice.index])
        assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens
    total = chunks[-1]
    assert total.choices == []
    assert total.usage == ask(served, prompts, **fields).usage
    assert total.usage.completion_tokens == sum(n_tokens.values())


def test_chunks_have_usage_only_if_the_request_asks_for_it(served: Any) -> None:
    _, without = streamed(served)
    _, ignored = streamed(served, stream_options={"continuous_usage_stats": True})  # as vLLM does
    for chunks in (without, ignored):
        assert all("usage" not in chunk.to_dict() and len(chunk.choices) == 1 for chunk in chunks)
    _, last = streamed(served, stream_options={"include_usage": True, "continuous_usage_stats": None})
    assert [chunk.to_dict()["usage"] is None for chunk in last] == [True] * (len(last) - 1) + [False]
    assert len(last) == len(without) + 1


OFF = {
    "min_tokens": None,
    "ignore_eos": None,
    "stop_token_ids": None,
    "include_stop_str_in_output": None,
    "stream_options": None,
}


@pytest.mark.parametrize(
    "fields",
    [
        OFF,
        {"min_tokens": 0, "ignore_eos": False, "stop_token_ids": [], "include_stop_str_in_output": False},
    ],
)
def test_the_fields_are_off_by_default(served: Any, fields: Any) -> None:
    assert ask(served, **fields, **END).choices == ask(served, **END).choices


@pytest.mark.parametrize(
    ("fields", "param", "message"),
    [
        ({"min_tokens": 13}, "min_tokens", "must be at most max_tokens, which is 12"),
        ({"min_tokens": 93, "max_tokens": None}, "min_tokens", "at most 92 tokens fit after the prompt"),
        ({"min_tokens": -1}, "min_tokens", "greater than or equal to 0"),
        ({"min_tokens": True}, "min_tokens", "integer"),
        ({"ignore_eos": 1}, "ignore_eos", "boolean"),
        ({"stop_token_ids": 5}, "stop_token_ids", "a list"),
        ({"stop_token_ids": [-5]}, "stop_token_ids", "greater than or equal to 0"),
        ({"stream_options": {"include_usage": True}}, "stream_options", "requires stream"),
        ({"stream": True, "stream_options": {"usage": True}}, "stream_options", "no field named 'usage'"),
        ({"min_token": 3}, "min_token", "did you mean 'min_tokens'?"),
        ({"min_tokens": 2, "stop_token_ids": [*range(256)]}, None, "every token is a stop token"),
        ({"min_tokens": 5, "processors": [{"type": "forced_tokens", "ids": [65, EOT]}]}, None, "no token is possible"),
    ],
)
def test_what_cannot_be_served_is_refused(served: Any, fields: Any, param: str | None, message: str) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        ask(served, **fields)
    assert message in caught.value.body["message"]
    assert caught.value.param == param
    assert ask(served).usage.completion_tokens
