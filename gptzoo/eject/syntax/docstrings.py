"""Docstrings of an ejected file: without the sentences about what the variant does not use."""

from __future__ import annotations

import inspect
import re

_ABOUT_THE_ZOO = re.compile(
    r"\b(gptzoo|spec|specs|config|configs|component|components|plugin|package|built-in|captured?|captures|"
    r"Falls back|subclass|subclasses|option|options|Raises?)\b"
)
_CODE = re.compile(r"`([^`]+)`")
_SENTENCE = re.compile(r"(?<=[.:;!?])\s+(?=[A-Z`])|(?<=[.])\s*\n\n\s*")
_WORD = re.compile(r"[A-Za-z_]\w*")


def filtered(text: str, code: str) -> str:
    """Return the docstring without sentences that name code which does not occur in `code`.

    The first sentence always stays.
    """
    paragraphs = [" ".join(paragraph.split()) for paragraph in inspect.cleandoc(text).split("\n\n")]
    known = set(_WORD.findall(code))
    kept: list[str] = []
    for index, paragraph in enumerate(paragraphs):
        sentences = _SENTENCE.split(paragraph)
        good = [s for n, s in enumerate(sentences) if _holds(s, known) or (index == 0 and n == 0)]
        if good:
            kept.append(" ".join(good))
    return "\n\n".join(kept)


def _holds(sentence: str, known: set[str]) -> bool:
    if _ABOUT_THE_ZOO.search(sentence):
        return False
    named = {word for span in _CODE.findall(sentence) for word in _WORD.findall(span)}
    return named <= known


def wrapped(text: str, width: int) -> str:
    """Return a docstring whose paragraphs are wrapped, with a summary of one line if that is possible."""
    import textwrap

    return "\n\n".join(textwrap.fill(paragraph, width, break_long_words=False) for paragraph in text.split("\n\n"))
