"""Folding: replace known expressions by their values and drop branches that are never taken."""

from __future__ import annotations

import ast
import copy
import inspect
import re
from typing import Any

from torch import nn

from gptzoo.component import Config
from gptzoo.components.context import ForwardContext
from gptzoo.components.sublayer import SublayerOutput
from gptzoo.dims import Dims
from gptzoo.eject.loops import unrolled
from gptzoo.eject.merge import Substitute
from gptzoo.eject.source import meaning
from gptzoo.eject.values import CONTEXT, UNKNOWN, Scope, is_number, is_simple

DIMENSIONS = {
    "vocab_size": "VOCAB_SIZE",
    "context_length": "CONTEXT_LENGTH",
    "d_model": "D_MODEL",
    "n_layers": "N_LAYERS",
    "n_heads": "N_HEADS",
    "d_head": "D_HEAD",
}
"""The module constants that stand for the sizes of the model."""
_MAX_PASSES = 4
_NEUTRAL_ARGUMENTS = {
    "F.scaled_dot_product_attention": {
        "attn_mask": "None",
        "dropout_p": "0.0",
        "is_causal": "False",
        "enable_gqa": "False",
    },
    "F.gelu": {"approximate": "'none'"},
    "nn.Linear": {"bias": "True"},
}
"""Keyword arguments that may be left out if they have the value of torch's default."""


def fold(function: ast.FunctionDef, scope: Scope) -> ast.FunctionDef:
    """Return a folded copy of a function."""
    function = copy.deepcopy(function)
    for _ in range(_MAX_PASSES):  # a dropped branch may leave a name with a single assignment
        before = ast.dump(function)
        function = Folder(scope, function).function(function)
        if ast.dump(function) == before:
            break
    return function


class Folder(ast.NodeTransformer):
    """Rewrites one function by what its scope knows."""

    def __init__(self, scope: Scope, function: ast.FunctionDef):
        self.scope = scope
        self.program = scope.program
        self.unit = scope.unit
        self.counts = _count_assignments(function)
        self.replaces_dict = False  # a dict over the widths of heads is now the value for the only width
        for argument in (*function.args.args, *function.args.kwonlyargs):
            if argument.annotation is not None and _is_context(argument.annotation):
                scope.names.setdefault(argument.arg, CONTEXT)

    def function(self, node: ast.FunctionDef) -> ast.FunctionDef:
        text = ast.get_docstring(node)
        if text is not None:
            node.body[0].value.value = inspect.cleandoc(text)  # type: ignore[attr-defined]
        node.body = self.block(node.body)
        self._reduce_annotation(node)
        return node

    def _reduce_annotation(self, node: ast.FunctionDef) -> None:
        """Let the annotation of the result follow when elements are dropped, or a table of one width is no dict."""
        known = self.program.dropped_elements(self.unit, self.scope)
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

    # ------------------------------------------------------------------ statements

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

    def visit_If(self, node: ast.If) -> Any:  # noqa: ANN401  a statement or several
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

    def visit_For(self, node: ast.For) -> Any:  # noqa: ANN401  a statement or several
        node.iter = self.visit(node.iter)
        iterated = self.scope.value(node.iter)
        if isinstance(iterated, nn.ModuleList) and len(iterated) == 0:
            return None
        if (bodies := unrolled(node, self.scope)) is not None:
            for name, count in _count_assignments(ast.Module(bodies, [])).items():
                self.counts[name] = max(count, self.counts.get(name, 0))
            return self.block(bodies)
        self.scope.bind_loop(node.target, node.iter)
        node.body = self.block(node.body)
        return node if node.body else None

    def visit_With(self, node: ast.With) -> Any:  # noqa: ANN401  a statement or several
        node.items = [self.visit(item) for item in node.items]
        node.body = self.block(node.body)
        return node if node.body else None

    def visit_Assign(self, node: ast.Assign) -> Any:  # noqa: ANN401  a statement or several
        target = node.targets[0]
        if len(node.targets) > 1:
            return self.block(_split_targets(node))
        if isinstance(target, ast.Tuple) and isinstance(node.value, ast.Tuple) and (split := _split_tuple(node)):
            return self.block(split)
        self._drop_known_elements(node)
        target = node.targets[0]
        node.value = self.visit(node.value)
        if isinstance(node.value, ast.Tuple) and isinstance(target, ast.Tuple):
            if ast.unparse(target) == ast.unparse(node.value):
                return None
            if split := _split_tuple(node):
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

    def visit_AnnAssign(self, node: ast.AnnAssign) -> Any:  # noqa: ANN401  a statement or several
        if node.value is None:
            return None
        assignment = ast.Assign([node.target], node.value)
        assignment.before, assignment.after = node.before, node.after  # type: ignore[attr-defined]
        return self.visit_Assign(assignment)

    def visit_Assert(self, node: ast.Assert) -> None:
        """Drop assertions, which are there for type checkers."""

    def visit_Expr(self, node: ast.Expr) -> Any:  # noqa: ANN401  a statement or None
        if isinstance(node.value, ast.Call) and self.program.has_no_effect(self.scope, node.value):
            return None
        node.value = self.visit(node.value)
        if isinstance(node.value, ast.Constant) and not isinstance(node.value.value, str):
            return None
        if isinstance(node.value, ast.Call) and ast.unparse(node.value.func) == "self.register_parameter":
            name, value = node.value.args
            if isinstance(name, ast.Constant):
                return ast.Assign([_attribute("self", str(name.value), ast.Store())], value)
        return node

    def visit_Return(self, node: ast.Return) -> Any:  # noqa: ANN401  a statement or several
        if (isinstance(node.value, ast.Call) and meaning(node.value.func) is SublayerOutput) or _is_output(node.value):
            return self._return_output(node.value)  # type: ignore[arg-type]
        if node.value is not None:
            node.value = self.visit(node.value)
        known = self.program.dropped_elements(self.unit, self.scope)
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
                statements.append(ast.Assign([_attribute("self", name, ast.Store())], given[name]))
                self.unit.outputs.add(name)
        return self.block([*statements, ast.Return(given["y"])])

    # ------------------------------------------------------------------ expressions

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
            return self._dimension(node, owner, value)
        elif is_number(value):
            return self._number(node, owner, value)
        node.value = self.visit(node.value)
        return node

    def _dimension(self, node: ast.Attribute, owner: Dims, value: object) -> ast.expr:
        if node.attr == "layer":
            self.unit.needs_layer = True
            return ast.Name("layer", ast.Load()) if self.program.folding == "__init__" else _attribute("self", "layer")
        same = value == getattr(self.program.dims, node.attr)
        return ast.Name(DIMENSIONS[node.attr], ast.Load()) if same else ast.Constant(value)

    def _number(self, node: ast.Attribute, owner: object, value: Any) -> ast.expr:  # noqa: ANN401  a number
        if owner is self.unit.config and self.unit.config is not None:
            return self.program.option(self.unit, node.attr, value)
        if isinstance(owner, tuple) and isinstance(node.value, ast.Attribute):  # a named tuple
            return self.program.option(self.unit, node.attr, value)
        if isinstance(node.value, ast.Name) and node.value.id == "self":
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

    def _comprehension(self, node: Any) -> ast.expr:  # noqa: ANN401  any comprehension
        for generator in node.generators:
            generator.iter = self.visit(generator.iter)
            self.scope.bind_loop(generator.target, generator.iter)
            generator.ifs = [self.visit(test) for test in generator.ifs]
        for field in ("elt", "key", "value"):
            if hasattr(node, field):
                setattr(node, field, self.visit(getattr(node, field)))
        return node

    visit_ListComp = visit_SetComp = visit_GeneratorExp = _comprehension

    def visit_Call(self, node: ast.Call) -> ast.expr:
        value = self.scope.value(node)
        if is_simple(value):
            return ast.Constant(value)
        owner = self.scope.value(node.func.value) if isinstance(node.func, ast.Attribute) else UNKNOWN
        if isinstance(owner, Config) and isinstance(node.func, ast.Attribute):
            if node.func.attr == "build":
                arguments = [self.visit(argument) for argument in node.args]
                return self.program.construction(self, owner, arguments)
            if is_number(value):
                return ast.Constant(value)
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
        return self.program.inlined(self, _without_neutral_arguments(node))


def _is_context(annotation: ast.expr) -> bool:
    return ast.unparse(annotation).split(".")[-1].strip("'\"") == ForwardContext.__name__


def _is_output(node: ast.expr | None) -> bool:
    return isinstance(node, ast.Call) and ast.unparse(node.func) in ("gptzoo.SublayerOutput", "SublayerOutput")


def _attribute(owner: str, name: str, context: ast.expr_context | None = None) -> ast.Attribute:
    return ast.Attribute(ast.Name(owner, ast.Load()), name, context or ast.Load())


def _count_assignments(tree: ast.AST) -> dict[str, int]:
    counts: dict[str, int] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            counts[node.id] = counts.get(node.id, 0) + 1
        elif isinstance(node, ast.arg):
            counts[node.arg] = counts.get(node.arg, 0) + 1
    return counts


def _split_targets(node: ast.Assign) -> list[ast.stmt]:
    """Split `a = b = value` into `b = value` and `a = b`."""
    *others, last = node.targets
    first = ast.Assign([last], node.value)
    first.before, first.after = getattr(node, "before", []), getattr(node, "after", None)  # type: ignore[attr-defined]
    load = copy.deepcopy(last)
    load.ctx = ast.Load()  # type: ignore[attr-defined]
    return [first, *(ast.Assign([other], load) for other in others)]


def _split_tuple(node: ast.Assign) -> list[ast.stmt]:
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
