"""The class of a block in an ejected file: its parts, with the loop of its norm unrolled."""

from __future__ import annotations

import ast
import textwrap

from gptzoo.component import Component
from gptzoo.eject.layout.layout import Layout
from gptzoo.eject.names import norm_name
from gptzoo.eject.passes.fold import fold
from gptzoo.eject.passes.scope import Scope
from gptzoo.eject.passes.unit import Unit
from gptzoo.eject.syntax.clean import clean
from gptzoo.eject.syntax.merge import merged_methods, without_docstring
from gptzoo.eject.syntax.source import own_attribute
from gptzoo.eject.syntax.write import write


class BlockWriter:
    """Writes the class of a block."""

    def __init__(self, layout: Layout):
        self.layout = layout

    def text(self) -> str:
        """Return the text of the class."""
        body = self._forward()
        takes_state = ", state: dict[str, Tensor] | None = None" if self.layout.stateful else ""
        lines = [
            "class Block(nn.Module):",
            f'    """One layer: {" and ".join(self.layout.names)}."""',
            "",
            f"    def __init__(self{', layer: int' if self.layout.block_takes_layer else ''}):",
            "        super().__init__()",
            *(f"        self.{name} = {value}" for name, value in self._norms()),
            *(f"        self.{name} = {self._construction(name)}" for name in self.layout.names),
            "",
            f"    def forward(self, x: Tensor, context: Context{takes_state}) -> Tensor:",
            textwrap.indent(body, " " * 8),
        ]
        return "\n".join(lines)

    def _construction(self, name: str) -> str:
        column = self.layout.columns[name]
        names = [unit.name for unit in column]
        argument = "layer" if column[0].needs_layer else ""
        if len(set(names)) == 1:
            return f"{names[0]}({argument})"
        period = next(p for p in range(1, len(names) + 1) if all(n == names[i % p] for i, n in enumerate(names)))
        index = "layer" if period == len(names) else f"layer % {period}"
        calls = {u.name: f"{u.name}({'layer' if u.needs_layer else ''})" for u in column}
        if any(u.needs_layer for u in column):
            return f"[{', '.join(f'lambda layer: {calls[n]}' for n in names[:period])}][{index}](layer)"
        return f"[{', '.join(names[:period])}][{index}]()"

    def _norms(self) -> list[tuple[str, str]]:
        """Return the norm layers of a block and the expressions that build them."""
        norm = self.layout.model.blocks[0].norm
        result = []
        for group, layers in norm.named_children():
            for key in layers:
                built = self.layout.built_norm(norm.config.layer)
                result.append((norm_name(group, key), built))
        return result

    def _forward(self) -> str:
        norm = self.layout.model.blocks[0].norm
        unit = Unit("Norm", type(norm), instances=[b.norm for b in self.layout.model.blocks], config=norm.config)
        raw = merged_methods(type(norm), lambda base: self.layout.program.is_ours(base) and base is not Component)
        self.layout.program.folding = "forward"
        sublayers = {name: ast.Name(f"sublayer_{name}", ast.Load()) for name in self.layout.names}
        forward = fold(raw["forward"], Scope(self.layout.program, unit, {"sublayers": sublayers}))
        forward = _Calls({name: self._arguments(name) for name in self.layout.names}, unit).visit(forward)
        forward.body = _join_temporaries(without_docstring(forward))
        clean(forward)
        return write(forward.body)

    def _arguments(self, name: str) -> list[str]:
        """Return the arguments of a sublayer other than the residual stream."""
        method = self.layout.columns[name][0].methods["forward"]
        arguments = [a.arg for a in (*method.args.args, *method.args.kwonlyargs)][2:]
        if len(self.layout.stateful) > 1:
            return [a if a != "state" else f"state and state['{name}']" for a in arguments]
        return arguments


class _Calls(ast.NodeTransformer):
    """Calls of the block's own sublayers and norm layers, in place of those of a norm scheme."""

    def __init__(self, arguments: dict[str, list[str]], norm: Unit):
        self.arguments, self.norm = arguments, norm

    def visit_Call(self, node: ast.Call) -> ast.expr:
        self.generic_visit(node)
        if isinstance(node.func, ast.Name) and node.func.id.startswith("sublayer_"):
            name = node.func.id.removeprefix("sublayer_")
            extra = [ast.parse(argument, mode="eval").body for argument in self.arguments[name]]
            return ast.Call(_own(name), [*node.args, *extra], [])
        return node

    def visit_Subscript(self, node: ast.Subscript) -> ast.expr:
        match node:
            case ast.Subscript(ast.Attribute(ast.Name(id="self"), group), ast.Constant(value=str() as key)):
                return _own(norm_name(group, key))
        self.generic_visit(node)
        return node

    def visit_Attribute(self, node: ast.Attribute) -> ast.expr:
        self.generic_visit(node)
        value = getattr(self.norm.instances[0], node.attr, None)
        is_own = own_attribute(node) is not None
        if node.attr in self.norm.constants and is_own:
            return ast.Constant(self.norm.constants[node.attr])
        return ast.Constant(value) if is_own and isinstance(value, int | float) else node


def _own(name: str) -> ast.Attribute:
    return ast.Attribute(ast.Name("self", ast.Load()), name, ast.Load())


def _join_temporaries(body: list[ast.stmt]) -> list[ast.stmt]:
    """Join `y = f(x); x = x + y` to one statement."""
    statements: list[ast.stmt] = []
    for statement in body:
        previous = statements[-1] if statements else None
        match previous, statement:
            case ast.Assign(targets=[ast.Name(id=name)]), ast.Assign(value=ast.BinOp(right=ast.Name(id=used))):
                if name == used:
                    statement.value.right = previous.value  # type: ignore[attr-defined]
                    statements[-1] = statement
                    continue
            case ast.Assign(targets=[ast.Name(id=name)]), ast.Assign(
                value=ast.BinOp(right=ast.BinOp(left=ast.Name(id=used)))
            ):
                if name == used:
                    statement.value.right.left = previous.value  # type: ignore[attr-defined]
                    statements[-1] = statement
                    continue
        statements.append(statement)
    return statements
