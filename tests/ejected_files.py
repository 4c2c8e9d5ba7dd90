"""Ejected files in tests: their text without verification, as a module, and what is left over in them."""

from __future__ import annotations

import ast
import copy
import io
import itertools
import re
import sys
import tokenize
import types
from collections import Counter

import torch

import gptzoo
from gptzoo.eject.eject import _write, eject_model
from gptzoo.eject.names import ejected_tensors

_numbers = itertools.count()


def text_of(spec: gptzoo.ModelSpec, seed: int = 0) -> str:
    """Return the text of the file of a model, without running it."""
    return _write(gptzoo.build(spec, seed=seed), padding=False)  # type: ignore[arg-type]


def has_logits_of_its_model(spec: gptzoo.ModelSpec, *, padding: bool = False) -> bool:
    """Eject a model with random weights. Return True if the file has the same logits."""
    model = gptzoo.build(spec, seed=6).eval()
    generator = torch.Generator().manual_seed(8)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    file = module_of(eject_model(model, padding=padding)).GPT()
    file.load_state_dict(ejected_tensors(model.state_dict(), model))  # type: ignore[arg-type]
    tokens = torch.randint(spec.vocab_size or 1, (3, 17), generator=generator)
    with torch.no_grad():
        return torch.equal(file.eval()(tokens), model(tokens)[0])


def module_of(text: str) -> types.ModuleType:
    """Return a module with the definitions of a file."""
    name = f"ejected_{next(_numbers)}"
    module = sys.modules[name] = types.ModuleType(name)  # dataclasses look their module up there
    exec(compile(text, f"{name}.py", "exec"), vars(module))
    return module


def n_statements(text: str) -> int:
    """Return the number of statements of a file, with nested ones."""
    return sum(isinstance(node, ast.stmt) for node in ast.walk(ast.parse(text)))


PUBLIC = frozenset({"GPT", "load", "generate", "forward", "__init__", "after_optimizer_step", "step"})
"""Names that the user of a file calls, or torch."""


def unused_names(text: str) -> list[str]:
    """Return the functions, classes, constants, attributes, parameters and variables that nothing in a file reads."""
    tree = ast.parse(text)
    read = Counter(name for node in ast.walk(tree) for name in _read(node))
    unused = [name for name in _defined(tree) if name not in PUBLIC and not read[name]]
    for function in ast.walk(tree):
        if isinstance(function, ast.FunctionDef):
            unused += [f"{function.name}({name})" for name in _unused_locals(function)]
    return unused


ABOUT = {
    r"\bdocuments?\b": "document",
    r"\bcaptur": "capture",
    r"\bpacked\b": "packed",
    r"\bencoders?\b": "encoder",
    "compiled graphs?|is compiled": "compile",
    "normalise them|normalises them": r"norm\(|layer\(",
    "SwiGLU": r"\bsilu",
    "GEGLU": r"\bgelu",
    "ReGLU": r"\brelu",
    r"\bsoftcap\b": "softcap",
    r"\bsinks\b": "sinks",
    r"`window`|by a window": "window",
    "FlexAttention|flex_attention": "flex_attention",
    "each head width|each width": "rotary_dims",
    "or None|`None`|if there is one": "None",
    r"`metrics`": "metrics",
    r"built-in|\bplugin|\bgptzoo|\boptions?\b": r"\bgptzoo",
}
"""Patterns of docstrings and comments, each with the code that they need."""


def absent_subjects(text: str) -> list[str]:
    """Return the patterns of `ABOUT` in docstrings and comments of a file whose code is not there."""
    tree = ast.parse(text)
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef | ast.FunctionDef) and (docstring := ast.get_docstring(node)):
            words = docstring.rpartition("arXiv")[0] if isinstance(node, ast.ClassDef) else docstring
            found += [f"{node.name}: {about}" for about in _absent(words, _code(node))]
    comments = tokenize.generate_tokens(io.StringIO(text).readline)
    spoken = " ".join(token.string for token in comments if token.type == tokenize.COMMENT)
    return found + [f"comments: {about}" for about in _absent(spoken, _code(tree))]


def _absent(words: str, code: str) -> list[str]:
    return [about for about, needed in ABOUT.items() if re.search(about, words) and not re.search(needed, code)]


def _code(node: ast.AST) -> str:
    """Return the code of a node without docstrings and comments."""
    node = copy.deepcopy(node)
    for each in ast.walk(node):
        if isinstance(each, ast.ClassDef | ast.FunctionDef | ast.Module) and ast.get_docstring(each):
            each.body = each.body[1:] or [ast.Pass()]
    return ast.unparse(node)


def _read(node: ast.AST) -> list[str]:
    match node:
        case ast.Name(id=name, ctx=ast.Load()):
            return [name]
        case ast.Attribute(attr=name, ctx=ast.Load()):
            return [name]
        case ast.Call(func=ast.Name(id="getattr"), args=[_, ast.Constant(value=str() as name), *_]):
            return [name]
    return []


def _defined(tree: ast.Module) -> list[str]:
    names: list[str] = []
    for node in ast.walk(tree):
        match node:
            case ast.FunctionDef(name=name) | ast.ClassDef(name=name):
                names.append(name)
            case ast.Attribute(attr=name, ctx=ast.Store()) if name not in {"weight", "bias", "data"}:
                names.append(name)
        if isinstance(node, ast.Module | ast.ClassDef):
            names += [
                target.id
                for statement in node.body
                if isinstance(statement, ast.Assign | ast.AnnAssign)
                for target in (statement.targets if isinstance(statement, ast.Assign) else [statement.target])
                if isinstance(target, ast.Name)
            ]
    return names


def _unused_locals(function: ast.FunctionDef) -> list[str]:
    """Return the parameters and variables that a function does not read. An unpacked result may be named `_`."""
    read = {node.id for node in ast.walk(function) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)}
    arguments = function.args
    bound = [argument.arg for argument in (*arguments.args, *arguments.kwonlyargs) if argument.arg != "self"]
    bound += [
        target.id
        for node in ast.walk(function)
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    ]
    return [name for name in bound if name not in read and not name.startswith("_")]
