"""Unrolling of loops over known names, such as the sublayers of a block."""

from __future__ import annotations

import ast
import copy
from collections.abc import Mapping

from gptzoo.eject.passes.values import Evaluator, is_plain
from gptzoo.eject.syntax.merge import Substitute
from gptzoo.eject.syntax.write import write

_NEEDS_NAMES = ("register_parameter", "getattr", "rng(")  # calls that take the name of an attribute


def unrolled(loop: ast.For, scope: Evaluator) -> list[ast.stmt] | None:
    """Return the statements of a loop over known sublayers or over names of attributes, or None for another loop."""
    rounds = _rounds(loop, scope)
    if rounds is None:
        return None
    statements = []
    for names in rounds:
        statements += [Substitute(names).visit(copy.deepcopy(statement)) for statement in loop.body]
    return statements


def _rounds(loop: ast.For, scope: Evaluator) -> list[dict[str, ast.expr]] | None:
    """Return the expressions of the loop's variables in each round."""
    iterable: ast.expr = loop.iter
    view = "keys"
    if isinstance(loop.iter, ast.Call) and isinstance(loop.iter.func, ast.Attribute):
        iterable, view = loop.iter.func.value, loop.iter.func.attr
    sublayers = scope.value(iterable)
    if isinstance(sublayers, Mapping) and sublayers and all(isinstance(v, ast.expr) for v in sublayers.values()):
        pairs = [(ast.Constant(name), sublayer) for name, sublayer in sublayers.items()]
        match view, loop.target:
            case "items", ast.Tuple(elts=[ast.Name(id=key), ast.Name(id=value)]):
                return [{key: name, value: sublayer} for name, sublayer in pairs]
            case "values", ast.Name(id=value):
                return [{value: sublayer} for _, sublayer in pairs]
            case "keys", ast.Name(id=key):
                return [{key: name} for name, _ in pairs]
        return None
    body = write(loop.body)
    if not any(call in body for call in _NEEDS_NAMES):
        return None
    return _literal_rounds(loop, scope)


def _literal_rounds(loop: ast.For, scope: Evaluator) -> list[dict[str, ast.expr]] | None:
    value = scope.value(loop.iter)
    elements: list[ast.expr]
    if isinstance(value, tuple) and is_plain(value):
        elements = [ast.Constant(element) for element in value]
    elif isinstance(loop.iter, ast.Tuple):
        elements = loop.iter.elts
    else:
        return None
    if isinstance(loop.target, ast.Name):
        return [{loop.target.id: element} for element in elements]
    if not isinstance(loop.target, ast.Tuple) or not all(isinstance(element, ast.Tuple) for element in elements):
        return None
    names = [target.id for target in loop.target.elts if isinstance(target, ast.Name)]
    return [dict(zip(names, element.elts, strict=True)) for element in elements if isinstance(element, ast.Tuple)]
