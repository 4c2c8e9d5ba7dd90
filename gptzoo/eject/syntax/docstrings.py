"""Docstrings and comments of an ejected file: without the sentences about what the variant does not use.

A source says what holds for some variants only in a sentence of its own, which names code of these variants in
backquotes: "With `window`, …". The sentence is left out of a file without that code.
"""

from __future__ import annotations

import inspect
import re

_IN_NO_FILE = re.compile(
    r"\b(gptzoo|spec|specs|config|configs|component|components|plugin|package|built-in|captured?|captures|"
    r"Falls back|subclass|subclasses|option|options|Raises?|documents?|encoders?)\b"
)
"""Words for features that no ejected file has: the framework, captures, packed documents, and encoders."""
_CODE = re.compile(r"`([^`]+)`")
_SENTENCE = re.compile(r"(?<=[.:;!?])\s+(?=[A-Z`])|(?<=\.)\s+(?=[a-z]\w*: )")
_PARAMETER = re.compile(r"([a-z]\w*): ")
_WORD = re.compile(r"[A-Za-z_]\w*")


def filtered(text: str, code: str) -> str:
    """Return the docstring without sentences that name code or describe parameters which do not occur in `code`.

    The first sentence stays, unless it has a word of `_IN_NO_FILE` and another sentence stays.
    """
    paragraphs = [" ".join(paragraph.split()) for paragraph in inspect.cleandoc(text).split("\n\n")]
    known = set(_WORD.findall(code))
    kept: list[str] = []
    for index, paragraph in enumerate(paragraphs):
        sentences = _SENTENCE.split(paragraph)
        first = sentences[0] if index == 0 else ""
        good = [s for s in sentences if _holds(s, known) or (s is first and not _IN_NO_FILE.search(s))]
        if good:
            kept.append(" ".join(good))
    return "\n\n".join(kept) or _SENTENCE.split(paragraphs[0])[0]


def without_absent(comment: str) -> str:
    """Return a comment without sentences that have a word of `_IN_NO_FILE`."""
    return " ".join(s for s in _SENTENCE.split(comment) if not _IN_NO_FILE.search(s))


def _holds(sentence: str, known: set[str]) -> bool:
    parameter = _PARAMETER.match(sentence)
    if _IN_NO_FILE.search(sentence) or (parameter is not None and parameter[1] not in known):
        return False
    named = {word for span in _CODE.findall(sentence) for word in _WORD.findall(span)}
    return named <= known


def wrapped(text: str, width: int) -> str:
    """Return a docstring whose paragraphs are wrapped, with a summary of one line if that is possible."""
    import textwrap

    return "\n\n".join(textwrap.fill(paragraph, width, break_long_words=False) for paragraph in text.split("\n\n"))
