"""The prompt of a chat: the token ids of its messages, as the chat template of a model puts them together."""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from gptzoo.data.chat.rendering import render_template
from gptzoo.data.tokenizers.tokenizer import Tokenizer
from gptzoo.errors import InputError

Message = Mapping[str, Any]
_NO_TEMPLATE = (
    "this model has no chat template, as it was not trained on chats. Give one by --chat-template FILE (in Python: "
    "chat_template=...), or continue plain text instead"
)


def chat_prompt_ids(
    tokenizer: Tokenizer,
    messages: Sequence[Message],
    *,
    template: str | None = None,
    add_generation_prompt: bool = True,
    variables: Mapping[str, Any] | None = None,
) -> list[int]:
    """Return the token ids of a chat, which do not get the tokenizer's prefix: the template writes BOS itself.

    The names of special tokens are tokens where the template writes them, and plain text inside messages.

    messages: objects with "role" and "content", and further keys that the template reads.
    template: Jinja template, or the name of one of the tokenizer's templates. Default: its template "default".
    add_generation_prompt: end with the beginning of the assistant's answer.
    variables: further variables of the template, such as {"enable_thinking": False}.

    Raises InputError if there is no template, or if it fails, as templates do for a role that they do not know.
    """
    if not messages:
        raise InputError("the chat has no message. Give at least one.")
    source = find_template(tokenizer, template)
    special_tokens = tokenizer.special_token_names
    marks = _Marks(special_tokens)
    try:
        values = {
            **_named_tokens(tokenizer),
            **marks.add_all(variables or {}),
            "messages": [_with_reasoning(marks.add_all(message)) for message in messages],
            "add_generation_prompt": add_generation_prompt,
        }
        text = render_template(source, {"tools": None, "documents": None, **values})
    except RecursionError:
        raise InputError("the messages or variables of the chat are nested too deeply") from None
    ids: list[int] = []
    for part, special in marks.split(text):
        encoded = tokenizer.encode_part(part, special=special) if not ids else _encode_later(tokenizer, part, special)
        if not special and special_tokens[part] in encoded:
            raise InputError(f"a message contains {part!r}, which this tokenizer cannot read as plain text. Remove it.")
        ids += encoded
    if not ids:
        raise InputError("the chat template returns an empty text for these messages")
    return ids


def chat_text(
    tokenizer: Tokenizer, messages: Sequence[Message], *, template: str | None = None, continue_last: bool = False
) -> str:
    """Return the text of a chat, in which names of special tokens inside messages are tokens as well.

    template: Jinja template, or the name of one of the tokenizer's templates. Default: its template "default".
    continue_last: end inside the last message, which the model continues, instead of before an answer to it.

    Raises InputError if there is no template, or if it fails.
    """
    mark = f"\ue000{secrets.token_hex(8)}\ue001 "  # a template that trims messages removes the space at its end
    history = [dict(message) for message in messages]
    if continue_last:
        history[-1]["content"] = history[-1]["content"] + mark
    variables = {"tools": None, "documents": None, **_named_tokens(tokenizer), "messages": history}
    text = render_template(
        find_template(tokenizer, template), {**variables, "add_generation_prompt": not continue_last}
    )
    if not continue_last:
        return text
    before, found, after = text.rpartition(mark.strip())
    if not found:
        raise InputError("the chat template leaves out the last message, so it cannot be continued")
    return before if after.startswith(" ") else before.rstrip()


def find_template(tokenizer: Tokenizer, template: str | None = None) -> str:
    """Return a template by its name, or `template` itself. Raises InputError if there is none."""
    special = tokenizer.special_tokens
    known = {} if special is None else special.chat_templates
    if template is None:
        if not known:
            raise InputError(_NO_TEMPLATE)
        if "default" not in known:
            raise InputError(f"this model has no default chat template. Choose one of: {', '.join(sorted(known))}.")
        return known["default"]
    return known.get(template, template)


def _named_tokens(tokenizer: Tokenizer) -> Mapping[str, str]:
    """Return the names of special tokens that a template can use, such as `bos_token`."""
    if tokenizer.special_tokens is not None and tokenizer.special_tokens.names:
        return tokenizer.special_tokens.names
    end = [name for name, token in tokenizer.special_token_names.items() if token == tokenizer.eot]
    return {"eos_token": end[0]} if end else {}


def _with_reasoning(message: dict[str, Any]) -> dict[str, Any]:
    """Return a message with its reasoning under the names that templates read."""
    names = ("reasoning_content", "thinking", "reasoning")
    reasoning = next((message[name] for name in names if name in message), None)
    return message if reasoning is None else {"thinking": reasoning, **message, "reasoning_content": reasoning}


def _encode_later(tokenizer: Tokenizer, text: str, special: bool) -> Sequence[int]:
    """Return the ids of a part after others: without the space that some tokenizers put before the first word."""
    newline = list(tokenizer.encode_part("\n", special=False))
    ids = list(tokenizer.encode_part("\n" + text, special=special))
    return ids[len(newline) :] if ids[: len(newline)] == newline else tokenizer.encode_part(text, special=special)


class _Marks:
    """Marks around the names of special tokens in messages, which are plain text, unlike those of the template.

    A random number keeps messages from containing the marks.
    """

    def __init__(self, special_tokens: Iterable[str]):
        number = secrets.token_hex(8)
        longest_first = sorted(special_tokens, key=len, reverse=True)
        names = "|".join(map(re.escape, longest_first)) or "(?!)"  # which never matches
        self.start, self.end = f"\ue000{number}\ue001", f"\ue001{number}\ue000"  # characters of private use
        self.name = re.compile(names)
        self.marked = re.compile(f"{self.start}({names}){self.end}")

    def add_all(self, values: Mapping[str, object]) -> dict[str, Any]:
        """Return a JSON object with marks in its texts, and without nulls, as transformers reads messages."""
        return {key: self._add(item) for key, item in values.items() if item is not None}

    def _add(self, value: object) -> object:
        if isinstance(value, str):
            return self.name.sub(lambda match: self.start + match[0] + self.end, value)
        if isinstance(value, Mapping):
            return self.add_all(value)
        if isinstance(value, list | tuple):
            return [self._add(item) for item in value]
        return value

    def split(self, text: str) -> Iterator[tuple[str, bool]]:
        """Yield the parts of a rendered text, with True for a part in which names of special tokens are tokens."""
        position = 0
        for match in self.marked.finditer(text):
            if before := self._remove(text[position : match.start()]):
                yield before, True
            yield match[1], False
            position = match.end()
        if rest := self._remove(text[position:]):
            yield rest, True

    def _remove(self, text: str) -> str:
        """Return a text without the marks that the template separated from their name."""
        return text.replace(self.start, "").replace(self.end, "")
