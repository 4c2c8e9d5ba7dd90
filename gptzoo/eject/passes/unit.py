"""Units, the classes and functions of an ejected file, and the names of the sizes that they share."""

from __future__ import annotations

import ast
import types
from dataclasses import dataclass, field
from typing import Any

from gptzoo.component import Config
from gptzoo.eject.syntax.merge import without_docstring

DIMENSIONS = {
    "vocab_size": "VOCAB_SIZE",
    "context_length": "CONTEXT_LENGTH",
    "d_model": "D_MODEL",
    "n_layers": "N_LAYERS",
    "n_heads": "N_HEADS",
    "d_head": "D_HEAD",
}
"""The module constants that stand for the sizes of the model."""


@dataclass(eq=False)
class Unit:
    """A class or a function of the ejected file."""

    name: str
    cls: Any  # the class or the function that it comes from
    raw: dict[str, ast.FunctionDef] = field(default_factory=dict)  # by name, before folding
    instances: list[Any] = field(default_factory=list)  # the modules of the model that have this class and config
    config: Config | None = None
    methods: dict[str, ast.FunctionDef] = field(default_factory=dict)  # folded; only what is reached
    constants: dict[str, Any] = field(default_factory=dict)  # class attributes
    outputs: set[str] = field(default_factory=set)  # attributes with auxiliary outputs: losses, metrics
    needs_layer: bool = False  # the constructor takes the index of the layer

    def __deepcopy__(self, memo: object) -> Unit:
        return self

    @property
    def is_function(self) -> bool:
        return isinstance(self.cls, types.FunctionType)

    @property
    def updates_after_step(self) -> bool:
        """True if the part learns buffers from its metrics, after each optimizer step."""
        method = self.methods.get("after_optimizer_step")
        return method is not None and bool(without_docstring(method))


@dataclass(eq=False)
class Callee:
    """The method that a call runs."""

    unit: Unit
    method: str

    def __deepcopy__(self, memo: object) -> Callee:
        return self

    @property
    def key(self) -> tuple[str, str]:
        return self.unit.name, self.method
