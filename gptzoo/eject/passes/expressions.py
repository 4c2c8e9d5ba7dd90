"""Folding of expressions: replace what is known by its value."""

from __future__ import annotations

import ast
import re

from torch import nn

from gptzoo.component import Config
from gptzoo.components.context import ForwardContext
from gptzoo.dims import Dims
from gptzoo.eject.passes.assignments import attribute, count_assignments
from gptzoo.eject.passes.loops import unrolled
from gptzoo.eject.passes.scope import Scope
from gptzoo.eject.passes.unit import DIMENSIONS
from gptzoo.eject.passes.values import CONTEXT, UNKNOWN, is_number, is_simple
from gptzoo.eject.syntax.merge import Substitute
from gptzoo.eject.syntax.source import own_attribute

Comprehension = ast.ListComp | ast.SetComp | ast.GeneratorExp | ast.DictComp
_NEUTRAL_ARGUMENTS = {
    "F.scaled_dot_product_attention": {
        "attn_mask": "None",
        "dropout_p": "0.0",
        "is_causal": "False",
        "scale": "None",
        "enable_gqa": "False",
    },
    "F.gelu": {"approximate": "'none'"},
    "nn.Linear": {"bias": "True"},
}
"""Keyword arguments that may be left out if they have the value of torch's default."""


class ExpressionFolder(ast.NodeTransformer):
    """Rewrites the expressions of one function by what its scope knows."""

    def __init__(self, scope: Scope, function: ast.FunctionDef):
        self.scope = scope
        self.program = scope.program
        self.unit = scope.unit
        self.counts = count_assignments(function)
        self.replaces_dict = False  # a dict over the widths of heads is now the value for the only width
        for argument in (*function.args.args, *function.args.kwonlyargs):
            if argument.annotation is not None and _is_context(argument.annotation):
                scope.names.setdefault(argument.arg, CONTEXT)

    def visit_Name(self, node: ast.Name) -> ast.expr:
        if isinstance(node.ctx, ast.Load) and is_simple(value := self.scope.value(node)):
            return ast.Constant(value)
        return node

    def visit_Attribute(self, node: ast.Attribute) -> ast.expr:
        if not isinstance(node.ctx, ast.Load):
            return node
        value = self.scope.value(node)
        if is_simple(value):
            return ast.Constant(value)
        owner = self.scope.value(node.value)
        if owner is CONTEXT:
            node.attr = self.program.context_field(node.attr)
            node.context_field = node.attr  # type: ignore[attr-defined]
        elif isinstance(owner, Dims):
            return self._dimension(node, value)
        elif is_number(value):
            return self._number(node, owner, value)
        node.value = self.visit(node.value)
        return node

    def _dimension(self, node: ast.Attribute, value: int) -> ast.expr:
        if node.attr == "layer":
            self.unit.needs_layer = True
            return ast.Name("layer", ast.Load()) if self.program.folding == "__init__" else attribute("self", "layer")
        same = value == getattr(self.program.dims, node.attr)
        return ast.Name(DIMENSIONS[node.attr], ast.Load()) if same else ast.Constant(value)

    def _number(self, node: ast.Attribute, owner: object, value: float) -> ast.expr:
        if owner is self.unit.config and self.unit.config is not None:
            return self.program.option(self.unit, node.attr, value)
        if isinstance(owner, tuple) and isinstance(node.value, ast.Attribute):  # a named tuple
            return self.program.option(self.unit, node.attr, value)
        if own_attribute(node) is not None:
            return node
        return ast.Constant(value)

    def visit_BoolOp(self, node: ast.BoolOp) -> ast.expr:
        value = self.scope.value(node)
        if is_simple(value):
            return ast.Constant(value)
        if isinstance(node.op, ast.And) and self.scope.test(node) is False:
            return ast.Constant(False)
        stops_at = isinstance(node.op, ast.Or)
        kept: list[ast.expr] = []
        for operand in node.values:
            known = self.scope.test(operand)
            if known is UNKNOWN:
                kept.append(operand)
            elif known == stops_at:
                kept.append(operand)
                break
            elif operand is node.values[-1] and not kept:
                kept.append(operand)
        if len(kept) == 1:
            return self.visit(kept[0])
        node.values = [self.visit(operand) for operand in kept]
        return node

    def visit_UnaryOp(self, node: ast.UnaryOp) -> ast.expr:
        return self._constant_or_parts(node)

    def visit_Compare(self, node: ast.Compare) -> ast.expr:
        return self._constant_or_parts(node)

    def _constant_or_parts(self, node: ast.expr) -> ast.expr:
        value = self.scope.value(node)
        if isinstance(value, bool):
            return ast.Constant(value)
        self.generic_visit(node)
        return node

    def visit_IfExp(self, node: ast.IfExp) -> ast.expr:
        known = self.scope.test(node.test)
        if known is not UNKNOWN:
            return self.visit(node.body if known else node.orelse)
        self.generic_visit(node)
        return node.body if ast.unparse(node.body) == ast.unparse(node.orelse) else node

    def visit_BinOp(self, node: ast.BinOp) -> ast.expr:
        right = self.scope.value(node.right)
        folds_to_one = isinstance(node.right, ast.Name | ast.Attribute) and is_number(right) and right == 1
        if isinstance(node.op, ast.Mult | ast.Div) and folds_to_one:
            return self.visit(node.left)
        self.generic_visit(node)
        return node

    def visit_NamedExpr(self, node: ast.NamedExpr) -> ast.expr:
        node.value = self.visit(node.value)
        value = self.scope.value(node.value)
        if value is not UNKNOWN and self.counts.get(node.target.id) == 1:
            self.scope.names[node.target.id] = value
        return node

    def visit_Subscript(self, node: ast.Subscript) -> ast.expr:
        if isinstance(node.value, ast.Call) and isinstance(node.ctx, ast.Load):
            value = self.scope.value(node)
            if is_simple(value):
                return ast.Constant(value)
            known = self.program.known_elements(self.scope, node.value)
            if known and isinstance(node.slice, ast.Constant):
                return self.visit(node.value)  # the only element that is left
        if self.program.is_table_of_only_width(node):
            return self.visit(node.value)
        self.generic_visit(node)
        return node

    def visit_DictComp(self, node: ast.DictComp) -> ast.expr:
        generator = node.generators[0]
        if ast.unparse(generator.iter) == "self.rotary_dims" and (width := self.program.only_width()) is not None:
            assert isinstance(generator.target, ast.Name)
            self.replaces_dict = True
            return self.visit(Substitute({generator.target.id: width}).visit(node.value))
        return self._comprehension(node)

    def visit_ListComp(self, node: ast.ListComp) -> ast.expr:
        return self._comprehension(node)

    def visit_SetComp(self, node: ast.SetComp) -> ast.expr:
        return self._comprehension(node)

    def visit_GeneratorExp(self, node: ast.GeneratorExp) -> ast.expr:
        return self._comprehension(node)

    def _comprehension(self, node: Comprehension) -> ast.expr:
        for generator in node.generators:
            generator.iter = self.visit(generator.iter)
            self.scope.bind_loop(generator.target, generator.iter)
            generator.ifs = [self.visit(test) for test in generator.ifs]
        for field in ("elt", "key", "value"):
            if hasattr(node, field):
                setattr(node, field, self.visit(getattr(node, field)))
        return node

    def visit_Call(self, node: ast.Call) -> ast.expr:
        value = self.scope.value(node)
        if is_simple(value):
            return ast.Constant(value)
        owner = self.scope.value(node.func.value) if isinstance(node.func, ast.Attribute) else UNKNOWN
        if isinstance(owner, Config) and isinstance(node.func, ast.Attribute):
            if node.func.attr == "build":
                arguments = [self.visit(argument) for argument in node.args]
                return self.program.construction(owner, arguments)
            if is_number(value):
                return ast.Constant(value)
            if isinstance(value, tuple) and all(is_simple(element) or is_number(element) for element in value):
                return ast.Tuple([ast.Constant(element) for element in value], ast.Load())
        called = self.scope.value(node.func)
        if (isinstance(called, nn.Dropout) and called.p == 0) or isinstance(called, nn.Identity):
            return self.visit(node.args[0])
        text = ast.unparse(node.func)
        if text == "getattr" and len(node.args) == 2 and isinstance(name := self.visit(node.args[1]), ast.Constant):
            return self.visit(ast.Attribute(node.args[0], str(name.value), ast.Load()))
        if text == "sum" and (chain := _sum_of_known(node, self.scope)) is not None:
            return self.visit(chain)
        node.keywords = [keyword for keyword in node.keywords if not _draws(keyword)]
        if value is CONTEXT:
            self.program.mark_context_call(node)
        else:
            built = getattr(node, "callee", None)
            if built is None or built.method != "__init__":
                node.callee = self.program.callee(self.scope, node)  # type: ignore[attr-defined]
        self.generic_visit(node)
        if text in ("min", "max") and len(node.args) == 2 and ast.unparse(node.args[0]) == ast.unparse(node.args[1]):
            return node.args[0]
        return self.program.inlined(_without_neutral_arguments(node))


def _is_context(annotation: ast.expr) -> bool:
    return ast.unparse(annotation).split(".")[-1].strip("'\"") == ForwardContext.__name__


def _sum_of_known(node: ast.Call, scope: Scope) -> ast.expr | None:
    """Return `start + a + b` for `sum((… for … in known), start=start)`."""
    if not node.args or not isinstance(generator := node.args[0], ast.GeneratorExp):
        return None
    loop = generator.generators[0]
    terms = unrolled(ast.For(loop.target, loop.iter, [ast.Expr(generator.elt)], []), scope)
    if terms is None:
        return None
    total = node.keywords[0].value if node.keywords else node.args[1]
    for term in terms:
        assert isinstance(term, ast.Expr)
        total = ast.BinOp(total, ast.Add(), term.value)
    return total


def _draws(keyword: ast.keyword) -> bool:
    """Return True for `generator=rng(name)`: an ejected file draws from torch's global generator."""
    return keyword.arg == "generator" and re.match(r"rng\(", ast.unparse(keyword.value)) is not None


def _without_neutral_arguments(node: ast.Call) -> ast.Call:
    neutral = _NEUTRAL_ARGUMENTS.get(ast.unparse(node.func), {})
    node.keywords = [k for k in node.keywords if neutral.get(k.arg or "") != ast.unparse(k.value)]
    return node
