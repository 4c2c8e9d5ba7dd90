"""Removal of attributes that nothing reads, and of parameters that have one value or no use."""

from __future__ import annotations

import ast
from typing import Any

from torch import nn

from gptzoo.components.context import ForwardContext
from gptzoo.eject.passes.program import Program
from gptzoo.eject.passes.unit import DIMENSIONS, Callee, Unit
from gptzoo.eject.passes.values import is_number
from gptzoo.eject.syntax.clean import clean
from gptzoo.eject.syntax.source import own_attribute
from gptzoo.eject.syntax.write import write

CONTEXT_FIELDS = ("positions", "no_past", "trivially_causal", "positional", "tables", "self_bias")
_CALLED_BY_FRAME = ("prepare", "embed", "rotate", "bias", "new_state", "reset_parameters", "reset_buffers")


def prune(program: Program) -> None:
    """Remove all that no method of the file reads."""
    for unit in program.units.values():
        if "reset_buffers" in unit.methods and "__init__" in unit.methods:
            unit.methods["__init__"].body += ast.parse("self.reset_buffers()").body
    for _ in range(4):
        read = _read_attributes(program)
        for unit in program.units.values():
            if "__init__" in unit.methods:
                _prune_constructor(unit, read)
    _drop_methods(program)
    _pass_layers(program)
    _drop_unused(program, constructors=True)
    while _drop_unused(program, constructors=False):  # a dropped argument may leave a parameter of its caller unused
        pass
    fields = context_fields(program)
    for unit in program.units.values():
        for function in unit.methods.values():
            for node in ast.walk(function):
                if getattr(node, "makes_context", False):
                    assert isinstance(node, ast.Call)
                    node.keywords = [keyword for keyword in node.keywords if keyword.arg in fields]


def makes_contexts(program: Program) -> bool:
    """Return True if a part makes a context of its own, with positions of its own."""
    methods = (method for unit in program.units.values() for method in unit.methods.values())
    return any(getattr(node, "makes_context", False) for method in methods for node in ast.walk(method))


def context_fields(program: Program) -> list[str]:
    """Return the fields of the context that the file reads, in order."""
    used = {"positions"}
    for unit in program.units.values():
        for method in unit.methods.values():
            for node in ast.walk(method):
                if isinstance(node, ast.Attribute):
                    in_context = unit.cls is ForwardContext and isinstance(node.value, ast.Name)
                    if hasattr(node, "context_field") or (in_context and node.value.id == "self"):  # type: ignore[attr-defined]
                        used.add(node.attr)
    return [field for field in CONTEXT_FIELDS if field in used]


def drop_parameters(function: ast.FunctionDef, names: set[str]) -> None:
    """Remove parameters from a signature."""
    arguments = function.args
    n_required = len(arguments.args) - len(arguments.defaults)
    defaults = dict(zip([a.arg for a in arguments.args[n_required:]], arguments.defaults, strict=True))
    arguments.args = [argument for argument in arguments.args if argument.arg not in names]
    arguments.defaults = [defaults[argument.arg] for argument in arguments.args if argument.arg in defaults]
    pairs = [
        (argument, default)
        for argument, default in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)
        if argument.arg not in names
    ]
    arguments.kwonlyargs = [argument for argument, _ in pairs]
    arguments.kw_defaults = [default for _, default in pairs]


def _read_attributes(program: Program) -> set[str]:
    return {
        node.attr
        for unit in program.units.values()
        for method in unit.methods.values()
        for node in ast.walk(method)
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load)
    }


def _prune_constructor(unit: Unit, read: set[str]) -> None:
    constructor = unit.methods["__init__"]
    statements = []
    for statement in constructor.body:
        target = statement.targets[0] if isinstance(statement, ast.Assign) else None
        if isinstance(target, ast.Attribute):
            if own_attribute(target) is None or not (target.attr in read or _holds_tensors(unit, target.attr)):
                continue
            if ast.unparse(statement.value) in ("config", "dims"):  # type: ignore[attr-defined]
                continue
            if _is_constant(unit, target.attr, statement.value):  # type: ignore[attr-defined]
                continue
        statements.append(statement)
    constructor.body = statements
    clean(constructor)


def _is_constant(unit: Unit, name: str, value: ast.expr) -> bool:
    """Make a number that `__init__` assigns a constant of the class, or the name of a size of the model."""
    if isinstance(value, ast.Name) and value.id in DIMENSIONS.values():
        for method in unit.methods.values():
            _ReplaceAttribute(name, value).visit(method)
        return True
    if isinstance(value, ast.Constant) and is_number(value.value):
        unit.constants[name] = value.value
        return True
    return False


class _ReplaceAttribute(ast.NodeTransformer):
    def __init__(self, name: str, value: ast.expr):
        self.name, self.value = name, value

    def visit_Attribute(self, node: ast.Attribute) -> ast.expr:
        self.generic_visit(node)
        return self.value if own_attribute(node) == self.name and isinstance(node.ctx, ast.Load) else node


def _holds_tensors(unit: Unit, name: str) -> bool:
    """Return True if an attribute of the part holds parameters or buffers, which the state dict names."""
    for instance in unit.instances:
        if not isinstance(instance, nn.Module):
            continue
        if instance._parameters.get(name) is not None or instance._buffers.get(name) is not None:
            return True
        module = instance._modules.get(name)
        if module is not None and module.state_dict():
            return True
    return False


def _drop_methods(program: Program) -> None:
    """Remove the methods that neither the file nor its frame calls any more, now that constructors are shorter."""
    kept = {*_CALLED_BY_FRAME, "forward", "after_optimizer_step"}
    while True:
        read = kept | _read_attributes(program)
        unused = [
            (unit, name)
            for unit in program.units.values()
            for name in unit.methods
            if not unit.is_function and name not in read and not name.startswith("__")
        ]
        if not unused:
            return
        for unit, name in unused:
            del unit.methods[name]


def _pass_layers(program: Program) -> None:
    """Pass the index of the layer to the parts that need it, and through the parts that build them."""
    changed = True
    while changed:
        changed = False
        for unit in program.units.values():
            for _call, callee in _calls(unit):
                if callee.method == "__init__" and callee.unit.needs_layer and not unit.needs_layer:
                    unit.needs_layer = changed = True
    for unit in program.units.values():
        if not unit.needs_layer or "__init__" not in unit.methods:
            continue
        constructor = unit.methods["__init__"]
        if any("self.layer" in write([method]) for method in unit.methods.values()):
            position = 1 if write(constructor.body[:1]) == "super().__init__()" else 0
            constructor.body[position:position] = ast.parse("self.layer = layer").body


def _drop_unused(program: Program, *, constructors: bool) -> bool:
    """Remove the parameters that have one value or no use, with their arguments. Return False if there are none."""
    dropped = {
        key: names for key, names in _dropped_parameters(program).items() if constructors or key[1] != "__init__"
    }
    _drop_arguments(program, dropped, constructors=constructors)
    for (name, method), parameters in dropped.items():
        unit = program.units[name]
        drop_parameters(unit.methods[method], parameters)
        if method != "__init__":  # so that the next arguments are matched with the parameters that are left
            unit.raw[method] = clean(unit.methods[method])
    return any(dropped.values())


def _dropped_parameters(program: Program) -> dict[tuple[str, str], set[str]]:
    dropped: dict[tuple[str, str], set[str]] = {}
    kept = _used_without_call(program)
    for unit in program.units.values():
        for name, method in unit.methods.items():
            names = [a.arg for a in (*method.args.args, *method.args.kwonlyargs) if a.arg != "self"]
            used = {node.id for node in ast.walk(method) if isinstance(node, ast.Name)}
            simple = {p for p in names if p in program.known.get((unit.name, name), {}) and p not in used}
            unused = (
                {p for p in names if p not in used}
                if name not in _CALLED_BY_FRAME and (unit.name, name) not in kept
                else set()
            )
            dropped[unit.name, name] = (
                simple | unused | ({"config", "dims"} & set(names) if name == "__init__" else set())
            )
    _keep_common_signature(program, dropped)
    return dropped


def _keep_common_signature(program: Program, dropped: dict[tuple[str, str], set[str]]) -> None:
    """Let sublayers of the same name have the same parameters, since one line of the block calls them all."""
    for name in program.model.blocks[0].names:
        parts = [getattr(block, name) for block in program.model.blocks]
        keys = {(program.unit_of(type(part), part.config).name, "forward") for part in parts}
        shared = set.intersection(*(dropped[key] for key in keys))
        for key in keys:
            dropped[key] = shared


def _used_without_call(program: Program) -> set[tuple[str, str]]:
    """Return the methods that are passed on or stored, so that calls of them are not known."""
    used = set()
    for unit in program.units.values():
        for method in unit.methods.values():
            called = {id(node.func) for node in ast.walk(method) if isinstance(node, ast.Call)}
            for node in ast.walk(method):
                if id(node) not in called and (name := own_attribute(node)) is not None:
                    used.add((unit.name, name))
    return used


def _calls(unit: Unit) -> list[tuple[ast.Call, Callee]]:
    """Return the calls of units. A method of the same class may be called by a name that is gone now."""
    calls = []
    for method in unit.methods.values():
        for node in ast.walk(method):
            if isinstance(node, ast.Call) and (callee := getattr(node, "callee", None)) is not None:
                calls.append((node, callee))
                continue
            match node:
                case ast.Call(func=ast.Attribute(value=ast.Name(id="self"), attr=name)) if name in unit.methods:
                    calls.append((node, Callee(unit, name)))
    return calls


def _drop_arguments(program: Program, dropped: dict[tuple[str, str], set[str]], *, constructors: bool) -> None:
    for unit in program.units.values():
        for call, callee in _calls(unit):
            if callee.method == "__init__" and not constructors:
                continue
            original: Any = callee.unit.raw.get(callee.method)
            if original is None:
                call.args, call.keywords = [], []
                continue
            parameters = [argument.arg for argument in original.args.args]
            skipped = 0 if callee.unit.is_function else 2 if callee.method == "__init__" else 1
            names = parameters[skipped:]
            removed = dropped.get(callee.key, set(names))
            accepted = {*parameters, *(argument.arg for argument in original.args.kwonlyargs)}
            call.args = [a for name, a in zip(names, call.args, strict=False) if name not in removed]
            call.keywords = [k for k in call.keywords if k.arg in accepted and k.arg not in removed]
            if callee.method == "__init__" and callee.unit.needs_layer:
                call.args.insert(0, ast.Name("layer", ast.Load()))
    for unit in program.units.values() if constructors else ():
        if unit.needs_layer and "__init__" in unit.methods:
            unit.methods["__init__"].args.args.insert(1, ast.arg("layer", ast.Name("int", ast.Load())))
