"""Properties of tokenizers: text round-trips, ids fit the vocabulary, and the state is complete."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

from hypothesis import strategies as st

from gptzoo.data.tokenizers.bpe import import_tokenizers
from gptzoo.data.tokenizers.tokenizer import StreamDecoder, Tokenizer
from gptzoo.errors import DataError
from gptzoo.testing.at_size.draws import for_all, simpler_sequences
from gptzoo.testing.at_size.texts import RARE_TEXTS, SHORT_TEXTS, TEXTS, show, text_strategy
from gptzoo.testing.component_under_test import ComponentUnderTest
from gptzoo.testing.verdict import Failed, Skipped

if TYPE_CHECKING:
    import tokenizers

_N_DRAWS = 40


def check_round_trip(subject: ComponentUnderTest) -> None:
    """Check that decoding encoded text returns the text, in any script and length, also one id at a time."""
    _for_all_texts(subject, _require_round_trip)
    tokenizer = _fit(subject)
    for text in ("\ud800", "a\udfffb"):
        try:
            tokenizer.encode(text)
        except DataError:
            continue
        raise Failed(f"{text!r}, which is not valid Unicode, is encoded; expected DataError")


def check_decoding(subject: ComponentUnderTest) -> None:
    """Check that each id decodes on its own: the bytes of any ids are the bytes of each, one after the other."""
    tokenizer = _fit(subject, TEXTS)

    def require_concatenation(ids: Sequence[int]) -> None:
        pieces = [tokenizer.decode_bytes([token]) for token in ids]
        if (data := tokenizer.decode_bytes(ids)) != b"".join(pieces):
            at = next(i for i in range(len(ids)) if tokenizer.decode_bytes(ids[: i + 1]) != b"".join(pieces[: i + 1]))
            raise Failed(
                f"decoding {at + 1} ids at once gives other bytes than decoding one id at a time: "
                f"{data[-20:]!r} instead of {b''.join(pieces)[-20:]!r} at the end"
            )
        if not isinstance(tokenizer.decode(ids), str):
            raise Failed(f"decoding {len(ids)} ids gives no string")

    ids = st.lists(st.integers(0, tokenizer.vocab_size - 1), max_size=600)
    examples = [list(tokenizer.encode(text)) for text in TEXTS]
    for_all(
        ids,
        require_concatenation,
        effort=subject.effort,
        n_draws=_N_DRAWS,
        examples=examples,
        simpler=lambda ids: map(list, simpler_sequences(ids)),
    )


def check_ids(subject: ComponentUnderTest) -> None:
    """Check that ids are integers from 0 to vocab_size - 1, all of which can be decoded, and other ids are refused."""
    tokenizer = _fit(subject)
    last_id = tokenizer.vocab_size - 1

    def require_known_ids(tokenizer: Tokenizer, text: str) -> None:
        for token in tokenizer.encode(text):
            if not isinstance(token, int) or not 0 <= token < tokenizer.vocab_size:
                raise Failed(
                    f"{show(text)} is encoded with the id {token!r}; the vocabulary has ids 0 to "
                    f"{tokenizer.vocab_size - 1}"
                )

    _for_all_texts(subject, require_known_ids)
    if tokenizer.eot is not None and not 0 <= tokenizer.eot <= last_id:
        raise Failed(f"eot is {tokenizer.eot}; the vocabulary has ids 0 to {last_id}")
    for token in range(tokenizer.vocab_size) if last_id < 5000 else (0, last_id // 2, last_id):
        tokenizer.decode_bytes([token])
    for token in (-1, tokenizer.vocab_size, tokenizer.vocab_size + 1000):
        try:
            tokenizer.decode_bytes([token])
        except DataError:
            continue
        raise Failed(f"decoding the id {token}, which is outside the vocabulary, raises no DataError")


def check_saving(subject: ComponentUnderTest) -> None:
    """Check that a tokenizer rebuilt from its config and its JSON state is the same, and fitting is repeatable."""
    for training_texts in (SHORT_TEXTS, TEXTS):
        tokenizer, refitted = _fit(subject, training_texts), _fit(subject, training_texts)
        if tokenizer.state != refitted.state:
            raise Failed("fitting the same texts twice gives two different states")
        try:
            state = json.loads(json.dumps(tokenizer.state))
        except (TypeError, ValueError) as error:
            raise Failed(f"its state is not JSON: {error}") from None
        rebuilt = subject.config.build(state)
        if rebuilt.vocab_size != tokenizer.vocab_size or rebuilt.eot != tokenizer.eot:
            raise Failed("rebuilt from its state, it has another vocabulary")
        encoded = {text: list(tokenizer.encode(text)) for text in training_texts}
        for text in reversed(training_texts):  # in another order, because a cache must not matter
            if list(rebuilt.encode(text)) != encoded[text]:
                raise Failed(f"rebuilt from its state, it encodes {show(text)} differently")


def check_export(subject: ComponentUnderTest) -> None:
    """Check that texts have the same ids by its tokenizer.json, if it can be written as one."""
    last: list[tuple[Tokenizer, tokenizers.Tokenizer]] = []  # the last one, because some take seconds to write

    def require_same_ids(tokenizer: Tokenizer, text: str) -> None:
        if not last or last[0][0] is not tokenizer:
            last[:] = [(tokenizer, _library_of(tokenizer))]
        expected = list(tokenizer.encode_continuation(text))
        ids = last[0][1].encode(text, add_special_tokens=False).ids
        if ids != expected:
            at = next((i for i, (a, b) in enumerate(zip(ids, expected, strict=False)) if a != b), len(ids))
            raise Failed(f"tokenizer_json encodes {show(text)} differently from id {at} on")

    tokenizer = _fit(subject)
    library = _library_of(tokenizer)
    added = library.get_added_tokens_decoder()
    if tokenizer.eot is not None and not (tokenizer.eot in added and added[tokenizer.eot].special):
        raise Failed(f"its end-of-text token {tokenizer.eot} is no special token of tokenizer_json")
    _for_all_texts(subject, require_same_ids)


def _library_of(tokenizer: Tokenizer) -> tokenizers.Tokenizer:
    """Return the library's tokenizer that its tokenizer.json describes. Raises Skipped if there is none."""
    try:
        state, hf = tokenizer.tokenizer_json(), import_tokenizers()
    except DataError as error:
        raise Skipped(str(error)) from None
    try:
        library: tokenizers.Tokenizer = hf.Tokenizer.from_str(json.dumps(state))
    except Exception as error:  # the library raises plain Exceptions
        raise Failed(f"tokenizer_json returns no valid tokenizer.json: {error}") from None
    library.encode_special_tokens = True
    return library


def _require_round_trip(tokenizer: Tokenizer, text: str) -> None:
    ids = list(tokenizer.encode(text))
    if (decoded := tokenizer.decode(ids)) != text:
        raise Failed(f"{show(text)} is decoded as {_show_difference(text, decoded)}")
    stream = StreamDecoder(tokenizer)
    if (decoded := "".join(map(stream.feed, ids)) + stream.flush()) != text:
        raise Failed(f"{show(text)} is decoded as {_show_difference(text, decoded)} one id at a time")


def _for_all_texts(subject: ComponentUnderTest, check: Callable[[Tokenizer, str], None]) -> None:
    """Check texts of all kinds. A text with characters that the tokenizer has not seen is one to fit it on."""
    tokenizer = _fit(subject)

    def check_text(text: str) -> None:
        try:
            tokenizer.encode(text)
        except DataError:
            check(_fit(subject, [*SHORT_TEXTS, text]), text)
            return
        check(tokenizer, text)

    for_all(
        text_strategy(),
        check_text,
        effort=subject.effort,
        n_draws=_N_DRAWS,
        examples=TEXTS,
        simpler=lambda text: map("".join, simpler_sequences(text)),
    )


def _fit(subject: ComponentUnderTest, texts: Iterable[str] = (*SHORT_TEXTS, *RARE_TEXTS)) -> Tokenizer:
    assert issubclass(subject.component, Tokenizer)
    return subject.config.build(subject.component.fit(subject.config, iter(texts)))


def _show_difference(text: str, decoded: str) -> str:
    """Return the decoded text for a message, or its first difference if it is long."""
    if len(text) <= 60:
        return repr(decoded)
    at = next((i for i, (a, b) in enumerate(zip(text, decoded, strict=False)) if a != b), min(len(text), len(decoded)))
    return f"another text: from character {at} it has {decoded[at : at + 12]!r} instead of {text[at : at + 12]!r}"
