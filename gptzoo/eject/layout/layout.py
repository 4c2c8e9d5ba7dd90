"""The layout of a model: the parts of each layer, and what the classes around them share."""

from __future__ import annotations

import ast

from gptzoo.component import Config
from gptzoo.components.part import Part
from gptzoo.eject.passes.program import Program
from gptzoo.eject.passes.prune import context_fields
from gptzoo.eject.passes.unit import Unit
from gptzoo.eject.syntax.write import write


class Layout:
    """The parts of each layer, which of them have a state, and the fields of the context that they use."""

    def __init__(self, program: Program):
        self.program = program
        self.model = program.model
        self.spec = program.model.spec
        self.names: tuple[str, ...] = self.model.blocks[0].names
        self.columns = {name: [self._unit_of(getattr(b, name)) for b in self.model.blocks] for name in self.names}
        self.fields = context_fields(program)
        self.stateful = [n for n in self.names if any("new_state" in u.methods for u in self.columns[n])]
        self.block_takes_layer = any(
            len({unit.name for unit in column}) > 1 or column[0].needs_layer for column in self.columns.values()
        )
        self.has_score_bias = "self_bias" in self.fields

    def _unit_of(self, part: Part) -> Unit:
        return self.program.unit_of(type(part), part.config)

    def built_norm(self, config: Config) -> str:
        """Return the expression that builds a norm layer."""
        return write([ast.Expr(self.program.construction(config, [ast.Name("D_MODEL", ast.Load())]))])

    def positional_names(self) -> list[str]:
        """Return the expressions of the positionals in the model's methods."""
        many = len(self.model.positionals) > 1
        return [f"self.positionals[{i}]" if many else "self.positional" for i in range(len(self.model.positionals))]

    def uses_positionals(self) -> bool:
        """Return True if the model builds its positionals, since they compute something."""
        return any(set(unit.methods) - {"__init__"} for unit in self.program.positionals) or "positional" in self.fields
