"""The interface of a kind: the attributes and methods of its base classes, read from the source."""

from __future__ import annotations

import ast
import functools
import inspect
import itertools
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import gptzoo
from gptzoo.component import Component
from gptzoo.plugin_checks import kind_base


@dataclass(frozen=True)
class Attribute:
    """An attribute that a class declares and explains, in a string below it or in a comment at its end."""

    name: str
    declaration: str  # requires: ClassVar[frozenset[str]] = frozenset()
    meaning: str


@dataclass(frozen=True)
class Method:
    """A method or property with a docstring."""

    name: str
    signature: str  # as in the source, with decorators
    documentation: str


def intermediate_bases(components: list[type[Component]]) -> list[type[Component]]:
    """Return the public classes between the base class of a kind and its components, such as MultiHeadAttention."""
    bases = {
        base.__name__: base
        for component in components
        for base in component_bases(component, until=kind_base(component))
        if base.__name__ in gptzoo.__all__ and "name" not in vars(base)
    }
    return [bases[name] for name in sorted(bases)]


def component_bases(component: type, until: type = Component) -> list[type]:
    """Return a component class and its bases in method resolution order, up to but not including `until`."""
    bases = (base for base in component.__mro__ if issubclass(base, Component))
    return list(itertools.takewhile(lambda base: base is not until, bases))


def constructor_signature(base: type[Component]) -> str | None:
    """Return the signature of the constructor, or None if the kind does not define one."""
    constructors = (vars(cls)["__init__"] for cls in component_bases(base) if "__init__" in vars(cls))
    return next(map(_signature, constructors), None)


def declared_attributes(classes: list[type]) -> list[Attribute]:
    """Return the attributes that these classes declare and explain, in order."""
    return [attribute for cls in classes for attribute in _declared_attributes(cls)]


def documented_methods(classes: list[type]) -> list[Method]:
    """Return the public methods and properties of these classes that have a docstring, in order, each once."""
    methods: dict[str, Method] = {}
    for cls in classes:
        for name, member in vars(cls).items():
            function = _function(member)
            if function is None or not function.__doc__ or (name.startswith("_") and name != "__call__"):
                continue
            methods.setdefault(name, Method(name, _signature(function), inspect.cleandoc(function.__doc__)))
    return list(methods.values())


def _function(member: object) -> Callable[..., Any] | None:
    """Return the function of a method, class method or property, or None for other members."""
    for attribute in ("__func__", "fget"):
        member = getattr(member, attribute, None) or member
    return member if inspect.isfunction(member) else None


def _signature(function: Callable[..., Any]) -> str:
    source = textwrap.dedent(inspect.getsource(function))
    (node,) = ast.parse(source).body
    assert isinstance(node, ast.FunctionDef)
    signature = "\n".join(source.splitlines()[: node.body[0].lineno - 1])
    return textwrap.dedent(signature).removesuffix(":")


def _declared_attributes(cls: type) -> Iterator[Attribute]:
    lines, body = _class_source(cls)
    for statement, next_statement in itertools.zip_longest(body, body[1:]):
        if not isinstance(statement, ast.AnnAssign):
            continue
        meaning = lines[(statement.end_lineno or 1) - 1][statement.end_col_offset or 0 :].partition("# ")[2]
        match next_statement:
            case ast.Expr(value=ast.Constant(value=str(text))):
                meaning = inspect.cleandoc(text)
        if meaning and not meaning.startswith("type: "):
            yield Attribute(ast.unparse(statement.target), ast.unparse(statement), meaning)


@functools.cache
def _class_source(cls: type) -> tuple[list[str], list[ast.stmt]]:
    """Return the source lines of a class and the statements of its body."""
    source = textwrap.dedent(inspect.getsource(cls))
    (node,) = ast.parse(source).body
    assert isinstance(node, ast.ClassDef)
    return source.splitlines(), node.body
