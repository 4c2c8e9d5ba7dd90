"""Python text of a syntax tree, with the comments of its statements and arguments."""

from __future__ import annotations

import ast
import textwrap
from collections.abc import Iterable, Iterator

from gptzoo.eject.syntax.docstrings import without_absent

INDENT = "    "
COMMENT_WIDTH = 88


def write(statements: Iterable[ast.stmt], depth: int = 0) -> str:
    """Return the text of statements at an indentation."""
    lines = [line for statement in statements for line in _statement(statement)]
    return "\n".join(INDENT * depth + line if line else "" for line in lines)


def expression(node: ast.expr | None) -> str:
    """Return the text of an expression. A tuple is written without parentheses."""
    if node is None:
        return ""
    if isinstance(node, ast.Tuple) and len(node.elts) > 1:
        return ", ".join(ast.unparse(element) for element in node.elts)
    return ast.unparse(node)


def _statement(node: ast.stmt) -> Iterator[str]:
    before = without_absent(" ".join(line.removeprefix("#").strip() for line in getattr(node, "before", ())))
    yield from textwrap.wrap(before, COMMENT_WIDTH, initial_indent="# ", subsequent_indent="# ")
    after = getattr(node, "after", None)
    comment = f"  {after}" if after else ""
    if after and len(after) + len(ast.unparse(ast.fix_missing_locations(node)).partition("\n")[0]) > COMMENT_WIDTH - 4:
        yield after
        comment = ""
    match node:
        case ast.If():
            yield from _if("if", node, comment)
        case ast.For():
            yield f"for {expression(node.target)} in {expression(node.iter)}:{comment}"
            yield from _block(node.body)
        case ast.While():
            yield f"while {ast.unparse(node.test)}:{comment}"
            yield from _block(node.body)
        case ast.With():
            yield f"with {', '.join(ast.unparse(item) for item in node.items)}:{comment}"
            yield from _block(node.body)
        case ast.FunctionDef():
            yield from _function(node)
        case ast.ClassDef():
            yield from _class(node)
        case ast.Assign():
            targets = " = ".join(expression(target) for target in node.targets)
            yield f"{targets} = {expression(node.value)}{comment}"
        case ast.Return(value=None):
            yield f"return{comment}"
        case ast.Return():
            yield f"return {expression(node.value)}{comment}"
        case ast.Expr(value=ast.Constant(value=str() as text)):
            yield from docstring(text)
        case _:
            yield f"{ast.unparse(node)}{comment}"


def _block(body: list[ast.stmt]) -> Iterator[str]:
    for statement in body or [ast.Pass()]:
        for line in _statement(statement):
            yield INDENT + line if line else ""


def _if(word: str, node: ast.If, comment: str = "") -> Iterator[str]:
    yield f"{word} {ast.unparse(node.test)}:{comment}"
    yield from _block(node.body)
    if len(node.orelse) == 1 and isinstance(node.orelse[0], ast.If) and not getattr(node.orelse[0], "before", ()):
        yield from _if("elif", node.orelse[0])
    elif node.orelse:
        yield "else:"
        yield from _block(node.orelse)


def _function(node: ast.FunctionDef) -> Iterator[str]:
    for decorator in node.decorator_list:
        yield f"@{ast.unparse(decorator)}"
    returns = "" if node.returns is None else f" -> {ast.unparse(node.returns)}"
    if any(getattr(argument, "comment", None) for argument in node.args.args):
        yield f"def {node.name}("
        yield from (INDENT + line for line in _arguments(node.args))
        yield f"){returns}:"
    else:
        yield f"def {node.name}({ast.unparse(node.args)}){returns}:"
    yield from _block(node.body)


def _arguments(arguments: ast.arguments) -> Iterator[str]:
    """Write one argument per line, with its comment."""
    n_required = len(arguments.args) - len(arguments.defaults)
    defaults = [None] * n_required + list(arguments.defaults)
    for argument, default in zip(arguments.args, defaults, strict=True):
        yield _argument(argument, default)
    if arguments.kwonlyargs:
        yield "*,"
    for argument, default in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True):
        yield _argument(argument, default)


def _argument(argument: ast.arg, default: ast.expr | None) -> str:
    equals = " = " if argument.annotation else "="
    text = ast.unparse(argument) + ("" if default is None else equals + ast.unparse(default))
    comment = getattr(argument, "comment", None)
    return f"{text},  {comment}" if comment else f"{text},"


def _class(node: ast.ClassDef) -> Iterator[str]:
    for decorator in node.decorator_list:
        yield f"@{ast.unparse(decorator)}"
    bases = f"({', '.join(map(ast.unparse, node.bases))})" if node.bases else ""
    yield f"class {node.name}{bases}:"
    for index, statement in enumerate(node.body):
        if index and isinstance(statement, ast.FunctionDef):
            yield ""
        yield from (INDENT + line if line else "" for line in _statement(statement))


def docstring(text: str) -> Iterator[str]:
    """Write a docstring. `text` has no indentation of its own."""
    quotes = 'r"""' if "\\" in text else '"""'
    first, *rest = text.strip().splitlines()
    if not rest:
        yield f'{quotes}{first}"""'
        return
    yield quotes + first
    yield from rest
    yield '"""'
