"""Borders: places at which a text can be cut without any effect on its token ids.

A pre-tokenizer splits a text into words by a regular expression, and no token crosses a word. So a text can be cut
where a word ends, if the words of both parts are those of the whole text. The expressions of GPT-2, GPT-4, Llama 3,
Qwen and DeepSeek never look behind the start of a word. A word of other characters than whitespace does not continue
with a space.
This gives three kinds of borders:

1. before a space that follows a character other than whitespace;
2. before a newline that follows a letter or a digit (after punctuation, some expressions attach the newline to it);
3. after a single newline between a character other than whitespace and a letter or a digit.

At the end of the first part, the look-ahead of these expressions, `\\s+(?!\\S)`, then has the same result as in the
whole text: the part ends with a character other than whitespace, or with a newline that is a word, or the end of one.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

FindBorder = Callable[[str], int | None]
"""A function that returns the last border in a text, greater than 0, or None if it finds none."""


@dataclass(frozen=True)
class Border:
    """The borders of a tokenizer. A call returns the last one in a text, or None."""

    find: FindBorder

    def __call__(self, text: str) -> int | None:
        return self.find(text)


# Letters and digits that every version of Unicode since 4.0 has, and that normalization to NFC leaves unchanged.
_LETTER = (
    "0-9A-Za-z\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u0233\u0391-\u03a1\u03b1-\u03c9\u0410-\u044f"
    "\u0621-\u063a\u3041-\u3094\u30a1-\u30fa\u4e00-\u9fa5\uac00-\ud7a3"
)
_SOLID = rf"!-/:-@\[-`{{-~{_LETTER}\u3001-\u3003\u3008-\u3011\uff01-\uff5d"  # with punctuation; no whitespace anywhere
_WORD_BORDER = re.compile(rf"(?<=[{_SOLID}])(?= )|(?<=[{_LETTER}])(?=\n)|(?<=[{_SOLID}]\n)(?=[{_LETTER}])")
PART_CHARACTERS = 2**18  # encoded at a time; `tokenizers` needs about 200 bytes of memory for each
_FIRST_WINDOW = 1024  # characters at the end of a text that are searched first

_SUFFIXES = "'s|'t|'re|'ve|'m|'ll|'d"
_UPPER, _LOWER = r"\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}", r"\p{Ll}\p{Lm}\p{Lo}\p{M}"
_O200K = (
    rf"[^\r\n\p{{L}}\p{{N}}]?[{_UPPER}]*[{_LOWER}]+(?i:{_SUFFIXES})?|[^\r\n\p{{L}}\p{{N}}]?[{_UPPER}]+[{_LOWER}]*"
    rf"(?i:{_SUFFIXES})?|\p{{N}}{{1,3}}| ?[^\s\p{{L}}\p{{N}}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_AFTER_LETTERS = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
KNOWN_EXPRESSIONS = frozenset(
    {
        rf"(?i:{_SUFFIXES})|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}{{1,3}}{_AFTER_LETTERS}",  # Llama 3, GPT-4
        rf"(?i:{_SUFFIXES})|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}{_AFTER_LETTERS}",  # Qwen 2
        _O200K,
        # DeepSeek, one expression after the other:
        r"\p{N}{1,3}",
        "[\u4e00-\u9fa5\u3040-\u309f\u30a0-\u30ff]+",
        "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\r\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+"
        "| ?[\\p{P}\\p{S}]+[\r\n]*|\\s*[\r\n]+|\\s+(?!\\S)|\\s+",
    }
)
"""Regular expressions of pre-tokenizers with the borders of this module."""


def _find_end(text: str) -> int | None:
    return len(text) or None


def _find_last_word_border(text: str) -> int | None:
    """Return the last border between two words of the text. Time is linear."""
    window = _FIRST_WINDOW
    while True:
        start = max(0, len(text) - window)
        for match in reversed(list(_WORD_BORDER.finditer(text, start))):
            if match.start() > 0:
                return match.start()
        if start == 0:
            return None
        window *= 8


anywhere = Border(_find_end)  # of a tokenizer that encodes each character on its own
last_word_border = Border(_find_last_word_border)


def cut_at_borders(pieces: Iterable[str], border: FindBorder | None, size: int = PART_CHARACTERS) -> Iterator[str]:
    """Yield a text in parts of about `size` characters that end at borders. Without a border, a part is longer."""
    pending: list[str] = []  # text without a border
    tail = ""  # its last characters, which a border in the next piece may need
    for piece in pieces:
        for start in range(0, len(piece), size):
            chunk = piece[start : start + size]
            position = None if border is None else border(tail + chunk)
            if position is None or (cut := sum(map(len, pending)) - len(tail) + position) <= 0:
                pending.append(chunk)
                tail = (tail + chunk)[-2:]
                continue
            text = "".join([*pending, chunk])
            yield text[:cut]
            pending = [text[cut:]] if cut < len(text) else []
            tail = text[cut:][-2:]
    if pending:
        yield "".join(pending)


def border_of_state(state: dict[str, Any], *, reads_special_tokens: bool) -> Border | None:
    """Return the border of a tokenizer.json, or None if its parts are not known to have borders."""
    splits_words = _splits_known_words(state.get("pre_tokenizer")) and _keeps_text(state.get("normalizer"))
    tokens_in_text = [token for token in state.get("added_tokens", []) if reads_special_tokens or not token["special"]]
    crosses = any(
        token["lstrip"] or token["rstrip"] or _WORD_BORDER.search(token["content"]) for token in tokens_in_text
    )
    model = state.get("model", {})
    if not splits_words or crosses or model.get("dropout") or model.get("type") not in ("BPE", None):
        return None
    return last_word_border


def _splits_known_words(pre_tokenizer: dict[str, Any] | None) -> bool:
    if pre_tokenizer is None:
        return False
    parts = pre_tokenizer["pretokenizers"] if pre_tokenizer.get("type") == "Sequence" else [pre_tokenizer]
    kinds = [_kind_of_split(part) for part in parts]
    return None not in kinds and "words" in kinds


def _kind_of_split(part: dict[str, Any]) -> str | None:
    """Return "words" for a pre-tokenizer that splits at each border, "" for one that keeps borders, None if unknown."""
    if part.get("type") == "ByteLevel":
        return None if part.get("add_prefix_space", True) else "words" if part.get("use_regex", True) else ""
    if part.get("type") == "Digits":
        return ""
    if part.get("type") == "Split" and part.get("behavior") == "Isolated" and not part.get("invert"):
        expression = part.get("pattern", {}).get("Regex")
        if expression in KNOWN_EXPRESSIONS:
            return "words" if r"\s+(?!\S)" in expression else ""
    return None


def _keeps_text(normalizer: dict[str, Any] | None) -> bool:
    """Return True for no normalization and for NFC, which does not move borders."""
    if normalizer is None:
        return True
    if normalizer.get("type") == "Sequence":
        return all(map(_keeps_text, normalizer["normalizers"]))
    return normalizer.get("type") == "NFC"
