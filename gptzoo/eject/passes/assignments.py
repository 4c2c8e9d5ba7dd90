"""Assignments in syntax trees: how often a name is assigned, and several assignments in place of one."""

from __future__ import annotations

import ast
import copy


def attribute(owner: str, name: str, context: ast.expr_context | None = None) -> ast.Attribute:
    return ast.Attribute(ast.Name(owner, ast.Load()), name, context or ast.Load())


def count_assignments(tree: ast.AST) -> dict[str, int]:
    counts: dict[str, int] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            counts[node.id] = counts.get(node.id, 0) + 1
        elif isinstance(node, ast.arg):
            counts[node.arg] = counts.get(node.arg, 0) + 1
    return counts


def split_targets(node: ast.Assign) -> list[ast.stmt]:
    """Split `a = b = value` into `b = value` and `a = b`."""
    *others, last = node.targets
    first = ast.Assign([last], node.value)
    first.before, first.after = getattr(node, "before", []), getattr(node, "after", None)  # type: ignore[attr-defined]
    load = copy.deepcopy(last)
    load.ctx = ast.Load()  # type: ignore[attr-defined]
    return [first, *(ast.Assign([other], load) for other in others)]


def split_tuple(node: ast.Assign) -> list[ast.stmt]:
    """Split `a, b = x, y` into two assignments, if that has the same effect and makes one of them known or shorter."""
    target, value = node.targets[0], node.value
    assert isinstance(target, ast.Tuple)
    assert isinstance(value, ast.Tuple)
    stored = {name.id for element in target.elts for name in ast.walk(element) if isinstance(name, ast.Name)}
    loaded = {name.id for element in value.elts for name in ast.walk(element) if isinstance(name, ast.Name)}
    starred = any(isinstance(element, ast.Starred) for element in (*target.elts, *value.elts))
    if starred or len(target.elts) != len(value.elts) or (stored & loaded) - {"self"}:
        return []
    statements = [ast.Assign([t], v) for t, v in zip(target.elts, value.elts, strict=True)]
    statements[0].before = getattr(node, "before", [])  # type: ignore[attr-defined]
    statements[-1].after = getattr(node, "after", None)  # type: ignore[attr-defined]
    return list(statements)
