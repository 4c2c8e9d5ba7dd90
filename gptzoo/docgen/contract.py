"""What a kind asks of its components: the attributes and methods of its base classes, as they are written."""

from __future__ import annotations

import ast
import functools
import inspect
import itertools
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import gptzoo
from gptzoo.component import Component


@dataclass(frozen=True)
class Attribute:
    """One that a class declares, and what it says of it: in a string below, or in a comment beside."""

    name: str
    declaration: str  # needs: ClassVar[frozenset[str]] = frozenset()
    meaning: str


@dataclass(frozen=True)
class Method:
    """One that a class documents."""

    name: str
    signature: str  # as in the source, decorators included
    documentation: str


def base_of(component: type[Component]) -> type[Component]:
    """The class that introduced the kind of a component."""
    return [base for base in component.__mro__ if vars(base).get("kind") == component.kind][-1]


def further_bases(components: list[type[Component]]) -> list[type[Component]]:
    """Public classes between the base of a kind and its components, to derive from when they fit."""
    found = {
        between.__name__: between
        for component in components
        for between in lineage(component, until=base_of(component))
        if between.__name__ in gptzoo.__all__ and "name" not in vars(between)
    }
    return [found[name] for name in sorted(found)]


def constructor(base: type[Component]) -> str | None:
    """The signature of the constructor, if the kind has one."""
    own = (vars(each)["__init__"] for each in lineage(base) if "__init__" in vars(each))
    return next(map(_signature, own), None)


def attributes(classes: list[type]) -> list[Attribute]:
    """What the bodies of these classes declare and explain, in order."""
    return [attribute for each in classes for attribute in _declared(each)]


def methods(classes: list[type]) -> list[Method]:
    """The public methods that these classes document, in order, each once."""
    found: dict[str, Method] = {}
    for each in classes:
        for name, member in vars(each).items():
            function = _function(member)
            if function is None or not function.__doc__ or (name.startswith("_") and name != "__call__"):
                continue
            found.setdefault(name, Method(name, _signature(function), inspect.cleandoc(function.__doc__)))
    return list(found.values())


def lineage(base: type, until: type = Component) -> list[type]:
    """`base` and the component classes that it derives from, as far as `until`."""
    return list(
        itertools.takewhile(lambda each: each is not until, (c for c in base.__mro__ if issubclass(c, Component)))
    )


def _function(member: Any) -> Any:
    """The function behind a method, a class method or a property; None for what is none."""
    for attribute in ("__func__", "fget"):
        member = getattr(member, attribute, None) or member
    return member if inspect.isfunction(member) else None


def _signature(function: Any) -> str:
    source = textwrap.dedent(inspect.getsource(function))
    (node,) = ast.parse(source).body
    assert isinstance(node, ast.FunctionDef)
    signature = "\n".join(source.splitlines()[: node.body[0].lineno - 1])
    return textwrap.dedent(signature).removesuffix(":")


def _declared(owner: type) -> Iterator[Attribute]:
    lines, body = _source(owner)
    for statement, below in itertools.zip_longest(body, body[1:]):
        if not isinstance(statement, ast.AnnAssign):
            continue
        meaning = lines[(statement.end_lineno or 1) - 1][statement.end_col_offset or 0 :].partition("# ")[2]
        match below:
            case ast.Expr(value=ast.Constant(value=str(text))):
                meaning = inspect.cleandoc(text)
        if meaning and not meaning.startswith("type: "):
            yield Attribute(ast.unparse(statement.target), ast.unparse(statement), meaning)


@functools.cache
def _source(owner: type) -> tuple[list[str], list[ast.stmt]]:
    source = textwrap.dedent(inspect.getsource(owner))
    (node,) = ast.parse(source).body
    assert isinstance(node, ast.ClassDef)
    return source.splitlines(), node.body
