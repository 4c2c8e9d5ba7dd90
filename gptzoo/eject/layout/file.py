"""The text of an ejected file: imports, constants, functions, classes and the frame around them."""

from __future__ import annotations

import ast
import copy
import inspect
import re
import types
from collections.abc import Iterator
from typing import Any

from torch import Tensor, nn

from gptzoo.components.context import ForwardContext
from gptzoo.eject.layout.block import BlockWriter
from gptzoo.eject.layout.context import context_class
from gptzoo.eject.layout.layout import Layout
from gptzoo.eject.layout.model import ModelWriter
from gptzoo.eject.licences import origins
from gptzoo.eject.passes.program import Program
from gptzoo.eject.passes.unit import DIMENSIONS, Unit
from gptzoo.eject.syntax.annotations import annotate
from gptzoo.eject.syntax.docstrings import filtered, wrapped
from gptzoo.eject.syntax.merge import Unsupported
from gptzoo.eject.syntax.source import UNRESOLVED, definition, meaning, walk_code
from gptzoo.eject.syntax.write import write

LINE_LENGTH = 100
_METHOD_ORDER = {"__init__": 0, "reset_parameters": 1, "reset_buffers": 2, "forward": 3}
_FRAME_IMPORTS = (
    *(
        "import torch",
        "import torch.nn.functional as F",
        "from dataclasses import dataclass",
        "from torch import Tensor",
    ),
    *("from safetensors.torch import load_file", "from torch import nn"),
)


class File:
    """An ejected file, written from a pruned program."""

    def __init__(self, program: Program):
        self.program = program
        self.layout = Layout(program)
        self.imports: set[str] = set(_FRAME_IMPORTS)
        self.constants: dict[str, Any] = {}
        self.packages = {"gptzoo"}
        self._done: set[str] = set()
        self._choose_names()

    def text(self) -> str:
        """Return the text of the file, not yet formatted."""
        definitions = [*self._units()]
        frame = [BlockWriter(self.layout).text(), ModelWriter(self.layout).text(), _LOAD]
        context = self._methods_of_context()
        body = "\n\n\n".join([*self._helpers, context, *definitions, *frame])
        head = [self._docstring(), "from __future__ import annotations", "", *sorted(self._used_imports(body)), ""]
        return "\n".join([*head, *self._dimensions(body), *self._module_constants(body)]) + "\n\n\n" + body + "\n"

    # ------------------------------------------------------------------ parts

    def _units(self) -> Iterator[str]:
        self._helpers: list[str] = []
        frame_units = [unit for column in self.layout.columns.values() for unit in column]
        positionals = self.program.positionals if self.layout.uses_positionals() else []
        roots = [self.program.context, *positionals, *self.program.norm_layers(), *frame_units]
        for unit in roots:
            for dependency in self._with_dependencies(unit):
                if dependency.cls is not ForwardContext and (dependency.methods or not dependency.raw):
                    text = self._function(dependency) if dependency.is_function else self._class(dependency)
                    if unit is self.program.context:
                        self._helpers.append(text)
                    else:
                        yield text

    def _with_dependencies(self, unit: Unit) -> Iterator[Unit]:
        """Yield the units that a unit uses, and then the unit itself, each only once per file."""
        if unit.name in self._done:
            return
        self._done.add(unit.name)
        for method in unit.methods.values():
            for node in walk_code(method):
                used = self._unit_named(node)
                if used is not None:
                    yield from self._with_dependencies(used)
        yield unit

    def _unit_named(self, node: ast.AST) -> Unit | None:
        value = meaning(node)
        if isinstance(value, Unit):
            return value
        value = inspect.unwrap(value) if callable(value) and not isinstance(value, type) else value
        if isinstance(value, types.FunctionType) and self.program.is_ours(value):
            return self.program.unit_of_function(value)
        if isinstance(value, type) and self.program.is_ours(value) and value is not ForwardContext:
            return self.program.unit_of_helper(value)
        return None

    def _function(self, unit: Unit) -> str:
        self._note_package(unit.cls)
        function = self._finished(unit.methods[""])
        function.name = unit.name
        function.decorator_list = []
        return write([function])

    def _class(self, unit: Unit) -> str:
        self._note_package(unit.cls)
        if not unit.raw:
            return self._record(unit)
        is_module = issubclass(unit.cls, nn.Module)
        bases: list[ast.expr] = [ast.parse("nn.Module", mode="eval").body] if is_module else []
        methods = sorted(unit.methods.items(), key=lambda item: _METHOD_ORDER.get(item[0], 4))
        functions = [self._finished(method) for name, method in methods if not _is_empty(name, method)]
        used = {node.attr for f in functions for node in ast.walk(f) if isinstance(node, ast.Attribute)}
        constants = {name: value for name, value in unit.constants.items() if name in used}
        for name in sorted(used - constants.keys()):
            value = inspect.getattr_static(unit.cls, name, None)
            if isinstance(value, int | float | str) and not name.startswith("__"):
                constants[name] = value
        body: list[ast.stmt] = [ast.parse(f"{name} = {value!r}").body[0] for name, value in constants.items()]
        code = "\n".join([write(list(functions)), *constants])
        doc = [ast.Expr(ast.Constant(self._class_docstring(unit, code)))]
        if not functions and not body:
            body = [ast.Pass()]
        return write([ast.ClassDef(unit.name, bases, [], [*doc, *body, *functions], [])])

    def _record(self, unit: Unit) -> str:
        """Return a named tuple or dataclass as it is in its source."""
        node = definition(unit.cls)
        node.name = unit.name
        for name in ast.walk(node):
            if isinstance(name, ast.Name) and name.id == "NamedTuple":
                self.imports.add("from typing import NamedTuple")
        return write([node])

    def _class_docstring(self, unit: Unit, code: str) -> str:
        text = filtered(unit.cls.__doc__ or unit.name, code)
        paper = getattr(unit.cls, "paper", "")
        summary, _, rest = text.partition("\n\n")
        parts = [summary, rest, f"{paper}." if paper else ""]
        return wrapped("\n\n".join(part for part in parts if part), LINE_LENGTH - 8)

    def _finished(self, function: ast.FunctionDef) -> ast.FunctionDef:
        """Return a copy with final names, annotations and docstrings."""
        function = copy.deepcopy(function)
        annotate(function)
        for node in list(walk_code(function)):
            if isinstance(node, ast.Name):
                self._finish_name(node)
            elif isinstance(node, ast.FunctionDef) and (text := ast.get_docstring(node)):
                code = write(node.body[1:]) + ast.unparse(node.args)
                node.body[0].value.value = wrapped(filtered(text, code), LINE_LENGTH - 12)  # type: ignore[attr-defined]
        if not function.body:
            function.body = [ast.Pass()]
        return function

    def _finish_name(self, node: ast.Name) -> None:
        value = meaning(node)
        unit = self._unit_named(node)
        if unit is not None:
            node.id = unit.name
        elif value is ForwardContext:
            node.id = "Context"
        elif isinstance(value, types.ModuleType):
            if value.__name__.partition(".")[0] == "gptzoo":
                raise Unsupported(f"a reference to the module {value.__name__}")
            self.imports.add(_import_of(node.id, value))
        elif isinstance(value, int | float | str | tuple) and not isinstance(value, type):
            self.constants[node.id.lstrip("_")] = value
            node.id = node.id.lstrip("_")
        elif value is not UNRESOLVED and value is not Tensor:
            module = getattr(value, "__module__", None)
            if module is not None and not (isinstance(value, type) and module == "builtins"):
                self.imports.add(f"from {module} import {node.id}")

    # ------------------------------------------------------------------ head

    def _methods_of_context(self) -> str:
        context = self.program.context
        context.methods = {name: self._finished(method) for name, method in context.methods.items()}
        return context_class(self.layout)

    def _docstring(self) -> str:
        spec = self.program.model.spec
        listed = ", ".join(map(str, origins(self.packages)))
        origin = wrapped(f"The code comes from {listed}.", LINE_LENGTH)
        name = _title(spec.name)
        return "\n".join(
            [
                f'"""{name} in PyTorch, in one file.',
                "",
                "    model = GPT()                                # initial weights, to train from scratch",
                '    model = load("model.safetensors")            # trained weights',
                "    logits = model(tokens)                       # (B, T) -> (B, T, V)",
                "    loss = model(tokens[:, :-1], tokens[:, 1:])  # the model does not shift targets",
                "    tokens = model.generate(tokens, 100)",
                "",
                "Shapes: B batch, T new tokens, S tokens so far, C model width, H query heads, G key/value heads,",
                "D head width, V vocabulary.",
                "",
                origin,
                '"""',
                "",
            ]
        )

    def _used_imports(self, body: str) -> set[str]:
        used = set()
        for line in self.imports:
            names = line.rpartition(" import ")[2] if line.startswith("from") else line.rpartition(" ")[2]
            if re.search(rf"\b{re.escape(names)}\b", body):
                used.add(line)
        return used

    def _dimensions(self, body: str) -> list[str]:
        dims = self.program.dims
        used = {name: attr for attr, name in DIMENSIONS.items() if re.search(rf"\b{name}\b", body)}
        lines = [f"{name} = {getattr(dims, attr)}" for name, attr in used.items()]
        config = self.program.model.config
        std = getattr(config, "init_std", 0.02)
        norm = self.program.model.spec.norm
        gain = norm.component.residual_gain(norm, dims)
        lines.append(f"INIT_STD = {std}")
        if "RESIDUAL_STD" in body:
            is_usual = gain == (2 * dims.n_layers) ** -0.5
            value = "INIT_STD / (2 * N_LAYERS) ** 0.5" if is_usual else repr(std * gain)
            lines.append(f"RESIDUAL_STD = {value}  # of layers that write to the residual stream")
        return lines

    def _module_constants(self, body: str) -> list[str]:
        return [f"{name} = {value!r}" for name, value in self.constants.items() if re.search(rf"\b{name}\b", body)]

    def _note_package(self, item: type | types.FunctionType) -> None:
        package = item.__module__.partition(".")[0]
        self.packages.add(package)

    def _choose_names(self) -> None:
        """Keep the underscore of a function whose name without it is also a local name somewhere."""
        methods = [m for unit in self.program.units.values() for m in unit.methods.values()]
        local = {
            node.id
            for m in methods
            for node in ast.walk(m)
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
        }
        local |= {node.arg for m in methods for node in ast.walk(m) if isinstance(node, ast.arg)}
        for unit in self.program.units.values():
            if unit.is_function and unit.name in local:
                unit.name = f"_{unit.name}"


def _is_empty(name: str, method: ast.FunctionDef) -> bool:
    statements = [statement for statement in method.body if not isinstance(statement, ast.Pass)]
    if name == "__init__":
        return [write([statement]) for statement in statements] in ([], ["super().__init__()"])
    return name in ("reset_parameters", "reset_buffers", "after_optimizer_step") and all(
        isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant) for statement in statements
    )


def _import_of(name: str, module: types.ModuleType) -> str:
    if module.__name__ == name:
        return f"import {name}"
    package, _, last = module.__name__.rpartition(".")
    return f"from {package} import {last}" if last == name else f"import {module.__name__} as {name}"


def _title(name: str | None) -> str:
    return "A decoder-only transformer" if name in (None, "", "model") else str(name)


_LOAD = '''def load(path: str) -> GPT:
    """Return the model with the weights of a safetensors file, in eval mode."""
    model = GPT()
    model.load_state_dict(load_file(path))
    return model.eval()'''
