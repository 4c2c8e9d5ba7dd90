"""Properties of tokenizers: text round-trips, ids fit the vocabulary, and the state is complete."""

from __future__ import annotations

import json

from gptzoo.data.tokenizers.tokenizer import StreamDecoder, Tokenizer
from gptzoo.errors import DataError
from gptzoo.testing.component_under_test import ComponentUnderTest
from gptzoo.testing.verdict import Failed

_TEXTS = (
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


def check_round_trip(subject: ComponentUnderTest) -> None:
    """Check that decoding encoded text returns the text, in any script, also one id at a time."""
    tokenizer = _fit(subject)
    for text in _TEXTS:
        ids = list(tokenizer.encode(text))
        if (decoded := tokenizer.decode(ids)) != text:
            raise Failed(f"{text!r} is decoded as {decoded!r}")
        stream = StreamDecoder(tokenizer)
        if (decoded := "".join(map(stream.feed, ids)) + stream.flush()) != text:
            raise Failed(f"{text!r} is decoded as {decoded!r} one id at a time")


def check_ids(subject: ComponentUnderTest) -> None:
    """Check that ids are integers from 0 to vocab_size - 1, all of which can be decoded, and other ids are refused."""
    tokenizer = _fit(subject)
    last_id = tokenizer.vocab_size - 1
    for text in _TEXTS:
        for token in tokenizer.encode(text):
            if not isinstance(token, int) or not 0 <= token <= last_id:
                raise Failed(f"{text!r} is encoded with the id {token!r}; the vocabulary has ids 0 to {last_id}")
    if tokenizer.eot is not None and not 0 <= tokenizer.eot <= last_id:
        raise Failed(f"eot is {tokenizer.eot}; the vocabulary has ids 0 to {last_id}")
    for token in {0, tokenizer.vocab_size // 2, last_id}:
        tokenizer.decode_bytes([token])
    for token in (-1, tokenizer.vocab_size):
        try:
            tokenizer.decode_bytes([token])
        except DataError:
            continue
        raise Failed(f"decoding the id {token}, which is outside the vocabulary, raises no DataError")


def check_saving(subject: ComponentUnderTest) -> None:
    """Check that a tokenizer rebuilt from its config and its JSON state is the same, and fitting is repeatable."""
    tokenizer, refitted = _fit(subject), _fit(subject)
    if tokenizer.state != refitted.state:
        raise Failed("fitting the same texts twice gives two different states")
    try:
        state = json.loads(json.dumps(tokenizer.state))
    except (TypeError, ValueError) as error:
        raise Failed(f"its state is not JSON: {error}") from None
    rebuilt = subject.config.build(state)
    if rebuilt.vocab_size != tokenizer.vocab_size or rebuilt.eot != tokenizer.eot:
        raise Failed("rebuilt from its state, it has another vocabulary")
    for text in _TEXTS:
        if list(rebuilt.encode(text)) != list(tokenizer.encode(text)):
            raise Failed(f"rebuilt from its state, it encodes {text!r} differently")


def _fit(subject: ComponentUnderTest) -> Tokenizer:
    assert issubclass(subject.component, Tokenizer)
    return subject.config.build(subject.component.fit(subject.config, iter(_TEXTS)))
