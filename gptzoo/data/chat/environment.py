"""The Jinja environment of chat templates: the functions, filters and tags that transformers offers to a template."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import Any, NoReturn, cast

import jinja2
from jinja2 import nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment


class _Generation(Extension):
    """The tag `{% generation %}`, which marks the text of the assistant for training. It changes nothing here."""

    tags = {"generation"}

    def parse(self, parser: Parser) -> nodes.Node:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.Scope(body, lineno=line)  # like the body of a macro, it sets no variables outside of it


_new_dict = cast(Callable[..., dict[Any, Any]], dict)  # with arguments of a template, which may be wrong


class _Namespace(jinja2.utils.Namespace):
    """A namespace whose attributes do not start with an underscore, so that none reaches Python's internals."""

    def __init__(*args: object, **values: object) -> None:  # so that a template can set `self` as well
        self, given = args[0], _new_dict(*args[1:], **values)
        for name in given:
            _check_public(name)
        jinja2.utils.Namespace.__init__(self, given)

    def __setitem__(self, name: str, value: object) -> None:
        _check_public(name)
        super().__setitem__(name, value)


class _Dict:
    """The function `dict` of a template, without the attributes of the class."""

    def __call__(self, *args: object, **values: object) -> dict[object, object]:
        return _new_dict(*args, **values)

    def fromkeys(self, keys: Iterable[object], value: object = None) -> dict[object, object]:
        return dict.fromkeys(keys, value)


class OutputTooLong(Exception):
    """A rendered text is longer than the limit."""


def render(template: str, variables: Mapping[str, Any], max_characters: int) -> str:
    """Return the rendered template. Raises OutputTooLong, or any exception of the template."""
    pieces = []
    length = 0
    for piece in _environment().from_string(template).generate(**variables):
        pieces.append(piece)
        length += len(piece)
        if length > max_characters:
            raise OutputTooLong
    return "".join(pieces)


def _environment() -> ImmutableSandboxedEnvironment:
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, loopcontrols]
    )
    environment.filters["tojson"] = _to_json
    environment.globals.update(
        raise_exception=_raise_exception, strftime_now=_strftime_now, dict=_Dict(), namespace=_Namespace
    )
    return environment


def _to_json(
    value: object,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """Return JSON without HTML escapes, unlike Jinja's own filter."""
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _raise_exception(message: str) -> NoReturn:
    raise jinja2.exceptions.TemplateError(message)


def _strftime_now(form: str) -> str:
    return datetime.now().strftime(form)


def _check_public(name: object) -> None:
    if isinstance(name, str) and name.startswith("_"):
        raise jinja2.exceptions.SecurityError(f"a namespace cannot have the attribute {name!r}")
