"""`SpecialTokens`: the special tokens that a pretrained model was trained with, kept in the state of its tokenizer."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from gptzoo.errors import DataError

STATE_KEY = "gptzoo"  # in a tokenizer's state, beside the keys of its library


@dataclass(frozen=True)
class SpecialTokens:
    """The special tokens of an imported tokenizer, by id."""

    prefix: tuple[int, ...] = ()  # ids before each text, such as BOS
    end: tuple[int, ...] = ()  # ids that end a text; the first one separates documents
    in_text: bool = False  # True: the name of a special token in a text is that token, not plain characters
    sources: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # end token as text -> files that name it
    names: Mapping[str, str] = field(default_factory=dict)  # such as `bos_token` -> text, for chat templates
    chat_templates: Mapping[str, str] = field(default_factory=dict)  # Jinja templates by name, such as "default"


def add_special_tokens(state: object, special: SpecialTokens) -> dict[str, Any]:
    """Return the state of a tokenizer, an object or None, with its special tokens."""
    if not isinstance(state, dict | None):
        raise TypeError(f"special tokens need a state that is an object or null, got {type(state).__name__}")
    values: dict[str, Any] = json.loads(json.dumps(asdict(special)))  # lists instead of tuples, as in the file
    return {**(state or {}), STATE_KEY: values}


def remove_chats(state: object) -> object:
    """Return a state without names and chat templates, which do not affect ids. Older versions did not keep them."""
    if not isinstance(state, dict) or not isinstance(state.get(STATE_KEY), dict):
        return state
    kept = {key: value for key, value in state[STATE_KEY].items() if key not in ("names", "chat_templates")}
    return {**state, STATE_KEY: kept}


def read_special_tokens(state: object) -> SpecialTokens | None:
    """Return the special tokens in a state, or None if it has none. Raises DataError for a damaged entry."""
    values = state.get(STATE_KEY) if isinstance(state, dict) else None
    if values is None:
        return None
    try:
        prefix, end = (tuple(values[key]) for key in ("prefix", "end"))
        sources = {str(text): tuple(files) for text, files in values["sources"].items()}
        names, templates = (dict(values.get(key, {})) for key in ("names", "chat_templates"))
        are_ids = all(type(token) is int and token >= 0 for token in prefix + end)
        are_texts = all(isinstance(text, str) for text in (*names.values(), *templates.values()))
        if not are_ids or not are_texts or not isinstance(values["in_text"], bool):
            raise ValueError("expected token ids, a flag and texts")
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DataError(f"the special tokens in the tokenizer's state are damaged: {error}. Import it again.") from None
    return SpecialTokens(prefix, end, values["in_text"], sources, names, templates)
