"""The `logprobs` of completions: one entry per generated token, with the values of the model's own logits."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
import torch

from gptzoo.data.tokenizers.byte import ByteTokenizer
from gptzoo.data.tokenizers.tokenizer import Tokenizer
from gptzoo.serving.logprobs import LogProbs

EOT = 256
END_AT_ONCE = {str(EOT): 100}  # a logit bias
FIELDS = ("tokens", "token_logprobs", "top_logprobs", "text_offset")
WAYS: dict[str, dict[str, Any]] = {
    "greedy": {},
    "sampling": {"temperature": 1.0},
    "n": {"temperature": 1.0, "n": 3},
    "best_of": {"temperature": 1.0, "n": 2, "best_of": 5},
    "beams": {"temperature": None, "n": 3, "extra_body": {"strategy": {"type": "beams", "n_beams": 3}}},
    "contrastive": {"temperature": None, "extra_body": {"strategy": {"type": "contrastive"}}},
    "speculative": {"temperature": 1.0, "n": 2, "extra_body": {"strategy": {"type": "speculative", "n_ahead": 3}}},
}


def ids_of(tokens: Sequence[str]) -> list[int]:
    """Return the ids of the byte tokenizer, given the texts of tokens."""
    return [EOT if not text else int(text[-2:], 16) if text.startswith("bytes:") else ord(text) for text in tokens]


def model_log_probs(served: Any, ids: Sequence[int]) -> torch.Tensor:
    """Return the log-softmax (T - 1, V) of the model's logits, which predict all tokens but the first."""
    with torch.inference_mode():
        return served.loaded.model(torch.tensor([list(ids)])[:, :-1])[0][0].double().log_softmax(-1)


def check_entries(served: Any, prompt_ids: Sequence[int], logprobs: Any, n_top: int) -> list[int]:
    """Compare entries of new tokens with the model's own logits, and return the tokens."""
    new = ids_of(logprobs.tokens)
    assert {len(getattr(logprobs, name)) for name in FIELDS} == {len(new)}
    expected = model_log_probs(served, [*prompt_ids, *new])[len(prompt_ids) - 1 :]
    own = expected.gather(1, torch.tensor(new)[:, None])[:, 0]
    torch.testing.assert_close(torch.tensor(logprobs.token_logprobs).double(), own, rtol=0, atol=1e-4)
    for text, top, row in zip(logprobs.tokens, logprobs.top_logprobs, expected, strict=True):
        assert list(top.values())[:n_top] == pytest.approx(row.topk(n_top).values.tolist(), abs=1e-4)
        assert text in top
    return new


def collect(chunks: Any, n_choices: int) -> list[dict[str, Any]]:
    """Join the chunks of a stream by choice."""
    choices: list[dict[str, Any]] = [{"text": "", **{name: [] for name in FIELDS}} for _ in range(n_choices)]
    for chunk in chunks:
        for choice in chunk.choices:
            joined = choices[choice.index]
            joined["text"] += choice.text
            for name in FIELDS:
                joined[name] += getattr(choice.logprobs, name)
    return choices


@pytest.mark.parametrize("way", WAYS)
def test_every_generated_token_has_an_entry_also_the_stop_token(served: Any, way: str) -> None:
    prompts = [list(b"Once"), list(b"A long one")]
    fields = {**WAYS[way], "max_tokens": 12, "seed": 5, "logprobs": 2}
    free = served.complete(prompts, **fields)
    stop = ids_of(free.choices[0].logprobs.tokens)[3]
    fields["logit_bias"] = {str(stop): 2}  # without it, no beam ends early
    fields["extra_body"] = {**fields.get("extra_body", {}), "stop_tokens": [stop]}
    answer = served.complete(prompts, **fields)
    n, n_entries, n_stopped = fields.get("n", 1), 0, 0
    for choice in answer.choices:
        new = check_entries(served, prompts[choice.index // n], choice.logprobs, 2)
        ended = choice.finish_reason == "stop" and new[-1] != EOT
        assert (new[-1] == stop) == ended
        assert stop not in new[:-1]
        kept = new[:-1] if choice.finish_reason == "stop" else new
        assert choice.text == served.loaded.tokenizer.decode(kept)
        n_stopped += ended
        n_entries += len(new)
    assert n_stopped > 0
    if "best_of" in fields:
        assert answer.usage.completion_tokens > n_entries  # it counts the samples that were not returned, too
        return
    assert answer.usage.completion_tokens == n_entries
    streamed = collect(served.complete(prompts, stream=True, **fields), len(answer.choices))
    for choice, joined in zip(answer.choices, streamed, strict=True):
        assert joined == {"text": choice.text, **{name: getattr(choice.logprobs, name) for name in FIELDS}}


def test_best_of_ranks_by_the_mean_of_the_entries(served: Any) -> None:
    fields = {"temperature": 1.0, "seed": 5, "max_tokens": 20, "logprobs": 1, "logit_bias": {str(EOT): 3}}
    every = [choice.logprobs.token_logprobs for choice in served.complete("Once", n=8, **fields).choices]
    best = [choice.logprobs.token_logprobs for choice in served.complete("Once", n=3, best_of=8, **fields).choices]
    expected = sorted(every, key=lambda values: -sum(values) / len(values))[:3]
    assert [values for row in best for values in row] == pytest.approx([value for row in expected for value in row])


@pytest.mark.parametrize("as_list", [False, True])
def test_a_text_that_ends_at_once_has_the_entry_of_its_end(served: Any, as_list: bool) -> None:
    prompt = [[65, 66, 67]] if as_list else [65, 66, 67]
    fields = {"max_tokens": 1, "logit_bias": END_AT_ONCE, "logprobs": 1}
    logprobs = served.complete(prompt, echo=True, **fields).choices[0].logprobs
    expected = model_log_probs(served, [65, 66, 67, EOT])[range(3), [66, 67, EOT]]
    assert logprobs.tokens == ["A", "B", "C", ""]
    assert logprobs.token_logprobs[0] is None
    assert logprobs.token_logprobs[1:] == pytest.approx(expected.tolist(), abs=1e-4)
    assert [top and top[text] for text, top in zip(logprobs.tokens, logprobs.top_logprobs, strict=True)] == [
        *logprobs.token_logprobs
    ]
    assert logprobs.text_offset == [0, 1, 2, 3]
    assert served.complete(prompt, **fields).choices[0].logprobs.tokens == [""]
    without_top = served.complete(prompt, echo=True, **{**fields, "logprobs": 0})
    assert without_top.choices[0].logprobs.top_logprobs == [None] * 4


@pytest.mark.parametrize("way", ["n", "best_of", "beams", "speculative"])
def test_an_echo_adds_the_entries_of_the_prompt_to_each_choice(served: Any, way: str) -> None:
    prompts = [list("né".encode()), list(b"A long one")]
    fields = {**WAYS[way], "max_tokens": 6, "seed": 5, "logprobs": 1, "logit_bias": {str(EOT): 4}}
    n = fields["n"]
    lengths = set()
    for choice in served.complete(prompts, echo=True, **fields).choices:
        prompt, entries = prompts[choice.index // n], choice.logprobs
        ids = ids_of(entries.tokens)
        assert ids[: len(prompt)] == prompt
        expected = model_log_probs(served, ids)[range(len(ids) - 1), ids[1:]]
        assert entries.token_logprobs[0] is None
        assert entries.token_logprobs[1:] == pytest.approx(expected.tolist(), abs=1e-4)
        assert len(entries.text_offset) == len(entries.top_logprobs) == len(ids)
        assert (ids[-1] == EOT) == (choice.finish_reason == "stop")
        assert entries.text_offset[len(prompt)] == len(bytes(prompt).decode())
        assert ids[-1] != EOT or entries.text_offset[-1] == len(choice.text)
        lengths.add(len(ids) - len(prompt))
    assert min(lengths) < 6


def test_a_stop_text_keeps_its_entries(served: Any) -> None:
    free = served.complete("Once", max_tokens=30, logprobs=1).choices[0]
    stop = free.text[10:13]
    answer = served.complete("Once", max_tokens=30, logprobs=1, stop=stop)
    (choice,) = answer.choices
    n = answer.usage.completion_tokens
    assert choice.text == free.text[: free.text.index(stop)]
    for name in FIELDS:
        assert getattr(choice.logprobs, name) == getattr(free.logprobs, name)[:n]
    assert served.loaded.tokenizer.decode(ids_of(choice.logprobs.tokens)).endswith(stop)
    (joined,) = collect(served.complete("Once", max_tokens=30, logprobs=1, stop=stop, stream=True), 1)
    assert joined == {"text": choice.text, **{name: getattr(choice.logprobs, name) for name in FIELDS}}


@pytest.mark.parametrize(("max_tokens", "logit_bias"), [(0, None), (1, None), (1, END_AT_ONCE)])
def test_an_evaluation_harness_reads_the_log_likelihood_of_a_continuation(
    served: Any, max_tokens: int, logit_bias: dict[str, int] | None
) -> None:
    """EleutherAI's harness sends token ids, and drops the context and the generated token from the entries."""
    context = list(b"Is a cat an animal?")
    rows = [context + list(answer) for answer in (b" Yes", b" No", " né".encode(), b" It may be")]
    answer = served.complete(rows, echo=True, logprobs=1, max_tokens=max_tokens, logit_bias=logit_bias)
    end = -1 if max_tokens else None
    for row, choice in zip(rows, answer.choices, strict=True):
        expected = model_log_probs(served, row)[len(context) - 1 :]
        own = expected[range(len(expected)), row[len(context) :]]
        values = choice.logprobs.token_logprobs[len(context) : end]
        tops = choice.logprobs.top_logprobs[len(context) : end]
        assert len(values) == len(row) - len(context)
        assert sum(values) == pytest.approx(own.sum().item(), abs=1e-3)
        greedy = all(value == max(top.values()) for value, top in zip(values, tops, strict=True))
        assert greedy == bool((own == expected.amax(-1)).all())


def test_the_harness_finds_a_greedy_continuation(served: Any) -> None:
    """It compares the value of a token with the greatest one as floats, so both must have the same bits."""
    context = list(b"Is a cat an animal?")
    new = ids_of(served.complete(context, max_tokens=20, logprobs=0).choices[0].logprobs.tokens)
    assert EOT not in new
    logprobs = served.complete(context + new, echo=True, logprobs=1, max_tokens=0).choices[0].logprobs
    pairs = zip(logprobs.token_logprobs[len(context) :], logprobs.top_logprobs[len(context) :], strict=True)
    assert all(value == max(top.values()) for value, top in pairs)


@pytest.mark.parametrize(
    ("prompt", "offsets"),
    [
        ("é a", [0, 0, 1, 2]),
        ("a😀b c", [0, 1, 1, 1, 1, 2, 3, 4]),
        ([0xC3, 0x41], [0, 1]),  # an incomplete character is U+FFFD
        ([0xE2, 0x82, 0xC3, 0xA9, 0xFF, 0x62], [0, 0, 1, 1, 2, 3]),
        ([0x61, EOT, 0x62], [0, 1, 1]),
    ],
)
def test_offsets_count_characters(served: Any, prompt: Any, offsets: list[int]) -> None:
    choice = served.complete(prompt, echo=True, logprobs=0, max_tokens=0).choices[0]
    assert choice.logprobs.text_offset == offsets
    (joined,) = collect(served.complete(prompt, echo=True, logprobs=0, max_tokens=0, stream=True), 1)
    assert (joined["text"], joined["text_offset"]) == (choice.text, offsets)


def test_offsets_continue_after_an_incomplete_character_of_the_prompt_and_of_the_text(served: Any) -> None:
    processors = [{"type": "forced_tokens", "ids": [0xA9, 0xC3, EOT]}]
    choice = served.complete(
        [0x61, 0xC3], temperature=None, echo=True, logprobs=0, max_tokens=5, extra_body={"processors": processors}
    ).choices[0]
    assert choice.text == "a\ufffd\ufffd\ufffd"
    assert choice.logprobs.text_offset == [0, 1, 2, 3, 4]


class Pieces(Tokenizer):
    """A tokenizer whose tokens are the given bytes."""

    def __init__(self, pieces: Sequence[bytes]):
        super().__init__(ByteTokenizer.Config())
        self.pieces, self.vocab_size = pieces, len(pieces)

    def decode_bytes(self, ids: Sequence[int]) -> bytes:
        return b"".join(self.pieces[i] for i in ids)


def texts_in_pieces() -> Iterator[list[bytes]]:
    """Yield bytes, mostly valid UTF-8, split at random places."""
    rng = random.Random(1)
    parts = [text.encode() for text in "aé€😀\ufffd"] + [b"\xc3", b"\xe2\x82", b"\xf0\x9f\x98", b"\xff", b"\xa9"]
    for _ in range(500):
        data = b"".join(rng.choices(parts, k=rng.randint(1, 8)))
        cuts = sorted(rng.choices(range(len(data) + 1), k=rng.randint(0, len(data))))
        yield [data[start:end] for start, end in zip([0, *cuts], [*cuts, len(data)], strict=True)]


def test_the_offset_is_the_index_of_the_character_of_the_first_byte() -> None:
    for pieces in texts_in_pieces():
        logprobs = LogProbs(Pieces(pieces), 0)
        n_before = 0
        for index, piece in enumerate(pieces):
            logprobs.add(index, -1.0, {})
            if piece:
                up_to_first_byte = b"".join(pieces)[: n_before + 1].decode("utf-8", errors="replace")
                assert logprobs.entries[-1].offset == len(up_to_first_byte) - 1, (pieces, index)
            n_before += len(piece)
        offsets = logprobs.all()["text_offset"]
        assert offsets == sorted(offsets)


def test_a_stop_token_may_be_a_spare_id_of_the_model() -> None:
    logprobs = LogProbs(ByteTokenizer(ByteTokenizer.Config()), 1)
    logprobs.add(299, -1.0, {298: -0.5})
    assert logprobs.all()["tokens"] == [""]
