"""What a tokenizer owes: text comes back, ids fit the vocabulary, and its state is all that it is."""

from __future__ import annotations

import json
from typing import Any

from gptzoo.data.tokenizers.tokenizer import StreamDecoder
from gptzoo.errors import DataError
from gptzoo.testing.subject import Subject
from gptzoo.testing.verdict import Failed

TEXTS = (
    "",
    "a",
    "The quick brown fox jumps over the lazy dog.",
    "two  spaces,\ttab\nline\r\n\n",
    " leading and trailing ",
    "naïve café, Straße, cafe\u0301",
    "中文 العربية हिन्दी",
    "🙂👩‍👩‍👧 🇫🇷",
    "<|endoftext|> is text, and so is </s>",
    "0123456789 == {}[]();",
)


def round_trip(subject: Subject) -> None:
    """Decoding what was encoded gives the text back, also id by id, in any script."""
    tokenizer = _fitted(subject)
    for text in TEXTS:
        ids = list(tokenizer.encode(text))
        if (back := tokenizer.decode(ids)) != text:
            raise Failed(f"{text!r} comes back as {back!r}")
        stream = StreamDecoder(tokenizer)
        if (back := "".join(map(stream.feed, ids)) + stream.flush()) != text:
            raise Failed(f"{text!r}, decoded id by id, comes back as {back!r}")


def ids(subject: Subject) -> None:
    """Ids are whole numbers from 0 to vocab_size - 1; each of them can be decoded, and no other."""
    tokenizer = _fitted(subject)
    for text in TEXTS:
        for token in tokenizer.encode(text):
            if not isinstance(token, int) or not 0 <= token < tokenizer.vocab_size:
                raise Failed(f"{text!r} gives the id {token!r}; the vocabulary has 0 to {tokenizer.vocab_size - 1}")
    if tokenizer.eot is not None and not 0 <= tokenizer.eot < tokenizer.vocab_size:
        raise Failed(f"eot is {tokenizer.eot}; the vocabulary has 0 to {tokenizer.vocab_size - 1}")
    for token in {0, tokenizer.vocab_size // 2, tokenizer.vocab_size - 1}:
        tokenizer.decode_bytes([token])
    for token in (-1, tokenizer.vocab_size):
        try:
            tokenizer.decode_bytes([token])
        except DataError:
            continue
        raise Failed(f"decoding the id {token}, which is outside of the vocabulary, raises no DataError")


def saving(subject: Subject) -> None:
    """A tokenizer made again from its config and its state, as JSON, is the same; the same texts teach the same."""
    tokenizer, again = _fitted(subject), _fitted(subject)
    if tokenizer.state != again.state:
        raise Failed("the same texts, learnt twice, give different states")
    try:
        state = json.loads(json.dumps(tokenizer.state))
    except (TypeError, ValueError) as error:
        raise Failed(f"its state is no JSON: {error}") from None
    loaded = subject.config.build(state)
    if loaded.vocab_size != tokenizer.vocab_size or loaded.eot != tokenizer.eot:
        raise Failed("made again from its state, it has another vocabulary")
    for text in TEXTS:
        if list(loaded.encode(text)) != list(tokenizer.encode(text)):
            raise Failed(f"made again from its state, it encodes {text!r} otherwise")


def _fitted(subject: Subject) -> Any:
    return subject.config.build(subject.component.fit(subject.config, iter(TEXTS)))  # type: ignore[attr-defined]
