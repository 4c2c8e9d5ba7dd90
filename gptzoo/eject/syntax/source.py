"""Syntax trees of definitions, with their comments and with global names bound to the objects that they mean."""

from __future__ import annotations

import ast
import copy
import functools
import inspect
import io
import sys
import tokenize
import types
from collections.abc import Iterator
from typing import Any, overload

UNRESOLVED = object()


class Meaning:
    """The object that a global name means. Copies of a tree share it, because modules cannot be copied."""

    def __init__(self, value: object):
        self.value = value

    def __deepcopy__(self, memo: dict[int, Any]) -> Meaning:
        return self


def meaning(node: ast.AST) -> object:
    """Return the object that a global name means, or UNRESOLVED for any other node."""
    found = getattr(node, "meaning", None)
    return UNRESOLVED if found is None else found.value


def global_name(name: str, value: object) -> ast.Name:
    """Return a name that means a global object."""
    node = ast.Name(name, ast.Load())
    node.meaning = Meaning(value)  # type: ignore[attr-defined]
    return node


def own_attribute(node: ast.AST) -> str | None:
    """Return the name of an attribute of `self`, such as that of `self.scale`, or None for any other node."""
    match node:
        case ast.Attribute(value=ast.Name(id="self"), attr=name):
            return name
    return None


@overload
def definition(item: type) -> ast.ClassDef: ...
@overload
def definition(item: types.FunctionType) -> ast.FunctionDef: ...
def definition(item: type | types.FunctionType) -> ast.AST:
    """Return a copy of the definition of a function or class, with comments and meanings."""
    node: Any = _module_tree(sys.modules[item.__module__])
    for name in item.__qualname__.split("."):
        node = next(
            child
            for child in node.body
            if isinstance(child, ast.FunctionDef | ast.ClassDef) and child.name == name and not _is_overload(child)
        )
    found: ast.AST = copy.deepcopy(node)
    return found


def local_names(function: ast.AST) -> set[str]:
    """Return all names that a function or its inner functions bind."""
    names = set()
    for node in ast.walk(function):
        if isinstance(node, ast.arg):
            names.add(node.arg)
        elif isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load):
            names.add(node.id)
        elif isinstance(node, ast.FunctionDef) and node is not function:
            names.add(node.name)
    return names


def walk_code(node: ast.AST) -> Iterator[ast.AST]:
    """Yield the nodes of a tree, without those of annotations."""
    yield node
    for name, value in ast.iter_fields(node):
        if name not in ("annotation", "returns"):
            for child in value if isinstance(value, list) else [value]:
                if isinstance(child, ast.AST):
                    yield from walk_code(child)


@functools.cache
def _module_tree(module: types.ModuleType) -> ast.Module:
    source = inspect.getsource(module)
    tree = ast.parse(source)
    _attach_comments(tree, source)
    for function in _functions(tree):
        _bind(function, vars(module), local_names(function))
    return tree


def _functions(tree: ast.Module) -> list[ast.FunctionDef]:
    """Return the functions and methods of a module, without functions inside of functions."""
    found = []
    for node in tree.body:
        if isinstance(node, ast.FunctionDef):
            found.append(node)
        elif isinstance(node, ast.ClassDef):
            found += [child for child in node.body if isinstance(child, ast.FunctionDef)]
    return found


def _is_overload(node: ast.FunctionDef | ast.ClassDef) -> bool:
    return any(ast.unparse(decorator).endswith("overload") for decorator in node.decorator_list)


def _bind(function: ast.FunctionDef, namespace: dict[str, Any], local: set[str]) -> None:
    _PublicNames(namespace, local).visit(function)
    for node in ast.walk(function):
        if not isinstance(node, ast.Name) or not isinstance(node.ctx, ast.Load) or node.id in local:
            continue
        if node.id in namespace and not hasattr(node, "meaning"):
            node.meaning = Meaning(namespace[node.id])  # type: ignore[attr-defined]


class _PublicNames(ast.NodeTransformer):
    """Replaces `gptzoo.extend` by `extend`, with its meaning."""

    def __init__(self, namespace: dict[str, Any], local: set[str]):
        self.namespace, self.local = namespace, local

    def visit_Attribute(self, node: ast.Attribute) -> ast.expr:
        self.generic_visit(node)
        if isinstance(node.value, ast.Name) and node.value.id == "gptzoo" and node.value.id not in self.local:
            return global_name(node.attr, getattr(self.namespace["gptzoo"], node.attr))
        return node


def _attach_comments(tree: ast.Module, source: str) -> None:
    """Give each statement the comments `before` and `after` it, and each argument its `comment`."""
    lines = source.splitlines()
    comments = {
        token.start[0]: text
        for token in tokenize.generate_tokens(io.StringIO(source).readline)
        if token.type == tokenize.COMMENT and (text := _without_directives(token.string))
    }
    own_line = {number for number in comments if lines[number - 1].lstrip().startswith("#")}
    for node in ast.walk(tree):
        if isinstance(node, ast.stmt):
            first = min([node.lineno, *(d.lineno for d in getattr(node, "decorator_list", []))])
            above = first - 1
            before: list[str] = []
            while above in own_line:
                before.insert(0, comments[above])
                above -= 1
            node.before = before  # type: ignore[attr-defined]
            node.after = _trailing_comment(node, comments, own_line)  # type: ignore[attr-defined]
        elif isinstance(node, ast.arg):
            alone = lines[node.lineno - 1].lstrip().startswith(node.arg)
            node.comment = comments.get(node.lineno) if alone else None  # type: ignore[attr-defined]


def _trailing_comment(node: ast.stmt, comments: dict[int, str], own_line: set[int]) -> str | None:
    body = getattr(node, "body", None)
    last = body[0].lineno - 1 if body else node.end_lineno
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        return None
    for line in (node.lineno, last):
        if line in comments and line not in own_line:
            return comments[line]
    return None


def _without_directives(comment: str) -> str:
    """Return a comment without directives for linters and type checkers."""
    parts = [part for part in comment.split("#") if part.strip()]
    kept = [part for part in parts if not part.strip().startswith(("noqa", "type: ignore", "pragma"))]
    return "#" + "#".join(kept).rstrip() if kept else ""
