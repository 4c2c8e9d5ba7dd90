"""Folding: replace known expressions by their values and drop branches that are never taken."""

from __future__ import annotations

import ast
import copy
import inspect

from torch import nn

from gptzoo.components.sublayer import SublayerOutput
from gptzoo.eject.passes.assignments import attribute, count_assignments, split_targets, split_tuple
from gptzoo.eject.passes.expressions import ExpressionFolder
from gptzoo.eject.passes.loops import unrolled
from gptzoo.eject.passes.scope import Scope
from gptzoo.eject.passes.values import UNKNOWN, is_simple
from gptzoo.eject.syntax.source import meaning

_MAX_PASSES = 4

Visited = ast.AST | list[ast.stmt] | None  # what takes the place of a statement


def fold(function: ast.FunctionDef, scope: Scope) -> ast.FunctionDef:
    """Return a folded copy of a function."""
    function = copy.deepcopy(function)
    for _ in range(_MAX_PASSES):  # a dropped branch may leave a name with a single assignment
        before = ast.dump(function)
        function = Folder(scope, function).function(function)
        if ast.dump(function) == before:
            break
    return function


class Folder(ExpressionFolder, ast.NodeTransformer):
    """Rewrites one function by what its scope knows."""

    def function(self, node: ast.FunctionDef) -> ast.FunctionDef:
        text = ast.get_docstring(node)
        if text is not None:
            node.body[0].value.value = inspect.cleandoc(text)  # type: ignore[attr-defined]
        node.body = self.block(node.body)
        self._reduce_annotation(node)
        return node

    def _reduce_annotation(self, node: ast.FunctionDef) -> None:
        """Update the return annotation: elements of a tuple were dropped, or a dict was replaced by its only value."""
        known = self.program.dropped_elements(self.unit)
        is_dict = isinstance(node.returns, ast.Subscript) and ast.unparse(node.returns.value) == "dict"
        if hasattr(node, "has_reduced_annotation") or not isinstance(node.returns, ast.Subscript):
            return
        if not isinstance(elements := node.returns.slice, ast.Tuple) or not (known or (is_dict and self.replaces_dict)):
            return
        kept = elements.elts[1:] if is_dict else [e for i, e in enumerate(elements.elts) if i not in known]
        node.has_reduced_annotation = True  # type: ignore[attr-defined]
        if len(kept) == 1:
            node.returns = kept[0]
        else:
            node.returns.slice = ast.Tuple(kept, ast.Load())

    def block(self, body: list[ast.stmt]) -> list[ast.stmt]:
        """Return the folded statements up to the first one that always leaves."""
        statements: list[ast.stmt] = []
        for statement in body:
            folded = self.visit(statement)
            new = folded if isinstance(folded, list) else [] if folded is None else [folded]
            statements += new
            if new and isinstance(new[-1], ast.Return | ast.Raise):
                break
        return statements

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.FunctionDef:
        node.body = self.block(node.body)
        return node

    def visit_If(self, node: ast.If) -> Visited:
        known = self.scope.test(node.test)
        if known is not UNKNOWN:
            return self._assigned_in(node.test) + self.block(node.body if known else node.orelse)
        node.test = self.visit(node.test)
        node.body, node.orelse = self.block(node.body), self.block(node.orelse)
        if not node.body and not node.orelse:
            return None
        if not node.body:
            node.test, node.body, node.orelse = ast.UnaryOp(ast.Not(), node.test), node.orelse, []
        return node

    def _assigned_in(self, test: ast.expr) -> list[ast.stmt]:
        """Return the assignments of walrus expressions in a test that is dropped."""
        assignments: list[ast.stmt] = []
        for node in ast.walk(test):
            if isinstance(node, ast.NamedExpr):
                assignments.append(ast.Assign([ast.Name(node.target.id, ast.Store())], node.value))
        return self.block(assignments)

    def visit_For(self, node: ast.For) -> Visited:
        node.iter = self.visit(node.iter)
        iterated = self.scope.value(node.iter)
        if isinstance(iterated, nn.ModuleList) and len(iterated) == 0:
            return None
        if (bodies := unrolled(node, self.scope)) is not None:
            for name, count in count_assignments(ast.Module(bodies, [])).items():
                self.counts[name] = max(count, self.counts.get(name, 0))
            return self.block(bodies)
        self.scope.bind_loop(node.target, node.iter)
        node.body = self.block(node.body)
        return node if node.body else None

    def visit_With(self, node: ast.With) -> Visited:
        node.items = [self.visit(item) for item in node.items]
        node.body = self.block(node.body)
        return node if node.body else None

    def visit_Assign(self, node: ast.Assign) -> Visited:
        target = node.targets[0]
        if len(node.targets) > 1:
            return self.block(split_targets(node))
        if isinstance(target, ast.Tuple) and isinstance(node.value, ast.Tuple) and (split := split_tuple(node)):
            return self.block(split)
        self._drop_known_elements(node)
        target = node.targets[0]
        node.value = self.visit(node.value)
        if isinstance(node.value, ast.Tuple) and isinstance(target, ast.Tuple):
            if ast.unparse(target) == ast.unparse(node.value):
                return None
            if split := split_tuple(node):
                return self.block(split)
        if ast.unparse(target) == ast.unparse(node.value):
            return None
        if isinstance(target, ast.Name) and self.counts.get(target.id) == 1:
            value = self.scope.value(node.value)
            if value is not UNKNOWN:
                self.scope.names[target.id] = value
                return None if is_simple(value) else node
        return node

    def _drop_known_elements(self, node: ast.Assign) -> None:
        """Unpack only those results of a function that are not always the same."""
        if not isinstance(node.value, ast.Call) or not isinstance(node.targets[0], ast.Tuple):
            return
        known = self.program.known_elements(self.scope, node.value)
        if not known or hasattr(node, "is_reduced"):
            return
        node.is_reduced = True  # type: ignore[attr-defined]
        kept = []
        for index, element in enumerate(node.targets[0].elts):
            if index not in known:
                kept.append(element)
            elif isinstance(element, ast.Name) and self.counts.get(element.id) == 1:
                self.scope.names[element.id] = known[index]
        node.targets = [kept[0] if len(kept) == 1 else ast.Tuple(kept, ast.Store())]

    def visit_AnnAssign(self, node: ast.AnnAssign) -> Visited:
        if node.value is None:
            return None
        assignment = ast.Assign([node.target], node.value)
        assignment.before, assignment.after = node.before, node.after  # type: ignore[attr-defined]
        return self.visit_Assign(assignment)

    def visit_Assert(self, node: ast.Assert) -> None:
        """Drop assertions, which are there for type checkers."""

    def visit_Expr(self, node: ast.Expr) -> Visited:
        if isinstance(node.value, ast.Call) and self.program.has_no_effect(self.scope, node.value):
            return None
        node.value = self.visit(node.value)
        if isinstance(node.value, ast.Constant) and not isinstance(node.value.value, str):
            return None
        if isinstance(node.value, ast.Call) and ast.unparse(node.value.func) == "self.register_parameter":
            name, value = node.value.args
            if isinstance(name, ast.Constant):
                return ast.Assign([attribute("self", str(name.value), ast.Store())], value)
        return node

    def visit_Return(self, node: ast.Return) -> Visited:
        if (isinstance(node.value, ast.Call) and meaning(node.value.func) is SublayerOutput) or _is_output(node.value):
            return self._return_output(node.value)  # type: ignore[arg-type]
        if node.value is not None:
            node.value = self.visit(node.value)
        known = self.program.dropped_elements(self.unit)
        if known and isinstance(node.value, ast.Tuple) and not hasattr(node, "is_reduced"):
            node.is_reduced = True  # type: ignore[attr-defined]
            kept = [element for index, element in enumerate(node.value.elts) if index not in known]
            node.value = kept[0] if len(kept) == 1 else ast.Tuple(kept, ast.Load())
        return node

    def _return_output(self, call: ast.Call) -> list[ast.stmt]:
        """Return the output alone, and leave its losses, and metrics that an update needs, on the module."""
        given = dict(zip(SublayerOutput._fields, call.args, strict=False))
        given |= {keyword.arg or "": keyword.value for keyword in call.keywords}
        statements: list[ast.stmt] = []
        for name, wanted in (("losses", True), ("metrics", self.unit.updates_after_step)):
            if name in given and wanted and self.scope.value(given[name]) != {}:
                statements.append(ast.Assign([attribute("self", name, ast.Store())], given[name]))
                self.unit.outputs.add(name)
        return self.block([*statements, ast.Return(given["y"])])


def _is_output(node: ast.expr | None) -> bool:
    return isinstance(node, ast.Call) and ast.unparse(node.func) in ("gptzoo.SublayerOutput", "SublayerOutput")
