"""Glob patterns over the dotted names of tensors and modules."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase

_MAX_LISTED = 8  # patterns in one message


def matching(names: Iterable[str], pattern: str) -> list[str]:
    """Return the names that a pattern matches. It names tensors, or modules that they are in.

    `*`, `?` and `[...]` stand for characters between two dots, and `**` for any number of parts between dots:
    `blocks.*.ffn` is the feed-forward network of each block, `**.bias` are all biases.
    """
    parts = pattern.split(".")
    return [name for name in names if _starts_with(name.split("."), parts)]


def matching_across_dots(names: Iterable[str], pattern: str) -> list[str]:
    """Return the names that a pattern matches in which `*` also stands for dots."""
    return [name for name in names if fnmatchcase(name, pattern) or fnmatchcase(name, f"{pattern}.*")]


def _starts_with(name: Sequence[str], pattern: Sequence[str]) -> bool:
    if not pattern:
        return True
    if pattern[0] == "**":
        return any(_starts_with(name[start:], pattern[1:]) for start in range(len(name) + 1))
    return bool(name) and fnmatchcase(name[0], pattern[0]) and _starts_with(name[1:], pattern[1:])


def describe_names(names: Iterable[str]) -> str:
    """Return a short list of names, with `*` in the place of numbers such as those of layers."""
    patterns = list(dict.fromkeys(re.sub(r"(?<=\.)\d+(?=\.)", "*", name) for name in names))
    more = f" and {len(patterns) - _MAX_LISTED} more" if len(patterns) > _MAX_LISTED else ""
    return ", ".join(patterns[:_MAX_LISTED]) + more
