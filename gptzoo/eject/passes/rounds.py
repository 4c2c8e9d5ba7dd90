"""Rounds of folding: all methods that a model reaches, until nothing changes."""

from __future__ import annotations

import ast
import types
from dataclasses import replace

from torch import nn

from gptzoo.components.context import ForwardContext
from gptzoo.components.positional import Positional
from gptzoo.components.sublayer import Sublayer
from gptzoo.eject.passes.fold import fold
from gptzoo.eject.passes.program import Program
from gptzoo.eject.passes.scope import Scope
from gptzoo.eject.passes.unit import Unit
from gptzoo.eject.passes.values import UNKNOWN, common, is_number, is_simple
from gptzoo.eject.syntax.clean import clean
from gptzoo.eject.syntax.merge import arguments_of
from gptzoo.eject.syntax.source import meaning, own_attribute, walk_code

_MAX_ROUNDS = 16
_POSITIONAL_METHODS = ("embed", "prepare", "rotate", "bias")


def _roots(program: Program) -> list[tuple[Unit, str]]:
    """Return the methods that the frame calls."""
    roots: list[tuple[Unit, str]] = []
    for block in program.model.blocks:
        for name in block.names:
            sublayer = getattr(block, name)
            unit = program.unit_of(type(sublayer), sublayer.config)
            stateless = type(sublayer).new_state is Sublayer.new_state
            roots += [(unit, m) for m in ("__init__", "forward", "new_state") if m != "new_state" or not stateless]
    for unit in program.positionals:
        used = [u.cls for u in program.positionals]
        overridden = [
            m for m in _POSITIONAL_METHODS if any(getattr(cls, m) is not getattr(Positional, m) for cls in used)
        ]
        roots += [(unit, name) for name in ("__init__", *overridden)]
    for unit in program.norm_layers():
        roots += [(unit, "__init__"), (unit, "forward")]
    return list(dict.fromkeys(roots))


def fold_all(program: Program) -> None:
    """Fold all methods that are reached, until nothing changes."""
    for _ in range(_MAX_ROUNDS):
        before = _snapshot(program)
        _round(program)
        if _snapshot(program) == before:
            return


def _snapshot(program: Program) -> object:
    methods = {(u.name, name): ast.dump(f) for u in program.units.values() for name, f in u.methods.items()}
    return (
        methods,
        {key: repr(v) for key, v in program.known.items()},
        {k: repr(v) for k, v in program.elements.items()},
    )


def _round(program: Program) -> None:
    done: dict[tuple[str, str], ast.FunctionDef] = {}
    calls: dict[tuple[str, str], list[tuple[Scope, ast.Call]]] = {}
    for unit in program.units.values():
        unit.outputs.clear()
    escaped: set[tuple[str, str]] = set()  # methods that are used without being called
    todo = [(unit, name) for unit, name in _roots(program) if name in unit.raw]
    while todo:
        unit, name = todo.pop()
        if (unit.name, name) in done:
            continue
        function, scope = _fold_method(program, unit, name)
        done[unit.name, name] = program.facts[unit.name, name] = function
        called = set()
        for node in ast.walk(function):
            if isinstance(node, ast.Call) and (callee := getattr(node, "callee", None)) is not None:
                called.add(id(node.func))
                if callee.method in callee.unit.raw:
                    calls.setdefault(callee.key, []).append((scope, node))
                    todo.append((callee.unit, callee.method))
                if callee.method == "__init__":
                    todo += [(callee.unit, m) for m in callee.unit.raw if m in ("reset_parameters", "reset_buffers")]
        todo += _references(program, unit, function, called, escaped)
        if name == "__init__":
            todo += [(unit, m) for m in unit.raw if m in ("reset_parameters", "reset_buffers", "after_optimizer_step")]
    for unit in program.units.values():
        unit.methods = {name: function for (owner, name), function in done.items() if owner == unit.name}
    roots = {(unit.name, name) for unit, name in _roots(program)}
    _find_known_arguments(program, calls, roots | escaped)
    _find_known_elements(program, roots | escaped)


def _references(
    program: Program, unit: Unit, function: ast.FunctionDef, called: set[int], escaped: set[tuple[str, str]]
) -> list[tuple[Unit, str]]:
    """Return what a function refers to without calling it directly: methods, functions and classes."""
    found: list[tuple[Unit, str]] = []
    for node in walk_code(function):
        if id(node) not in called and (name := own_attribute(node)) in unit.raw:
            found.append((unit, name))
            escaped.add((unit.name, name))
        value = meaning(node)
        if isinstance(value, types.FunctionType) and program.is_ours(value) and id(node) not in called:
            reference = program.unit_of_function(value)
            found.append((reference, ""))
            escaped.add((reference.name, ""))
        elif isinstance(value, type) and program.is_ours(value) and value is not ForwardContext:
            helper = program.unit_of_helper(value)
            found += [(helper, name) for name in helper.raw]
            escaped |= {(helper.name, name) for name in helper.raw}
    return found


def _fold_method(program: Program, unit: Unit, name: str) -> tuple[ast.FunctionDef, Scope]:
    names = dict(program.known.get((unit.name, name), {}))
    if name == "__init__":
        names |= {"config": unit.config, "dims": _dims_of(program, unit)}
    program.folding = name
    scope = Scope(program, unit, {key: value for key, value in names.items() if value is not None or key != "config"})
    return clean(fold(unit.raw[name], scope)), scope


def _dims_of(program: Program, unit: Unit) -> object:
    of_instances = [i.dims for i in unit.instances if hasattr(i, "dims")]
    return common(of_instances) if of_instances else replace(program.dims, layer=None)


def _find_known_arguments(
    program: Program, calls: dict[tuple[str, str], list[tuple[Scope, ast.Call]]], protected: set[tuple[str, str]]
) -> None:
    program.known = {}
    for key, sites in calls.items():
        if key in protected or key[1] == "__init__":
            continue
        unit = program.units[key[0]]
        values: dict[str, list[object]] = {}
        for scope, call in sites:
            given = arguments_of(unit.raw[key[1]], call, skip_first=not unit.is_function)
            for parameter, expression in (given or {}).items():
                values.setdefault(parameter, []).append(scope.value(expression))
        program.known[key] = {
            parameter: value
            for parameter, found in values.items()
            if len(found) == len(sites) and (value := common(found)) is not UNKNOWN and _may_be_known(value)
        }


def _find_known_elements(program: Program, protected: set[tuple[str, str]]) -> None:
    for unit in program.units.values():
        for name, function in unit.methods.items():
            key = (unit.name, name)
            if key in program.elements or key in protected:
                continue
            results = [node.value for node in ast.walk(function) if isinstance(node, ast.Return)]
            tuples = [result for result in results if isinstance(result, ast.Tuple)]
            if not results or len(tuples) != len(results) or len({len(t.elts) for t in tuples}) != 1:
                continue
            known: dict[int, object] = {}
            for index, elements in enumerate(zip(*(t.elts for t in tuples), strict=True)):
                constants = [element.value for element in elements if isinstance(element, ast.Constant)]
                if len(constants) == len(elements) and all(value is constants[0] for value in constants):
                    known[index] = constants[0]
            if known and len(known) < len(tuples[0].elts):
                program.elements[key] = known


def _may_be_known(value: object) -> bool:
    return is_simple(value) or is_number(value) or isinstance(value, nn.Module)
