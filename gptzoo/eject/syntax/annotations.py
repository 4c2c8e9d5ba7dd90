"""Annotations of an ejected file: plain types only, since those of the zoo are gone."""

from __future__ import annotations

import ast
import re

_REPLACED = {
    "ForwardContext": "Context",
    "State": "dict[str, Tensor]",
    "SublayerOutput": "Tensor",
}
_PLAIN = re.compile(r"(Tensor|Context|int|float|bool|None|str|torch\.\w+|tuple|list|dict|object|\.\.\.|[ |\[\],])+")


def annotate(function: ast.FunctionDef) -> None:
    """Replace the annotations of a function by plain ones, or remove them."""
    returned = [node.value for node in ast.walk(function) if isinstance(node, ast.Return) and node.value is not None]
    for node in ast.walk(function):
        if isinstance(node, ast.arg) and node.annotation is not None:
            node.annotation = _plain(node.annotation)
    if function.returns is not None:
        function.returns = _fitting(_plain(function.returns), returned)


def _plain(annotation: ast.expr) -> ast.expr | None:
    text = ast.unparse(annotation).replace("gptzoo.", "")
    for name, plain in _REPLACED.items():
        text = re.sub(rf"\b{name}\b", plain, text)
    text = re.sub(r"\bTensor \| Tensor\b", "Tensor", text)
    text = re.sub(r"\btorch\.device \| str \| None\b", "torch.device", text)
    return ast.parse(text, mode="eval").body if _PLAIN.fullmatch(text) else None


def _fitting(annotation: ast.expr | None, returned: list[ast.expr]) -> ast.expr | None:
    """Return the annotation if it fits what the function returns now, or a simpler one."""
    if annotation is None:
        return None
    if isinstance(annotation, ast.Subscript) and ast.unparse(annotation.value) == "tuple":
        tuples = [value for value in returned if isinstance(value, ast.Tuple)]
        elements = annotation.slice.elts if isinstance(annotation.slice, ast.Tuple) else [annotation.slice]
        if returned and not tuples and not any(isinstance(v, ast.Call) for v in returned):
            return elements[0]
        if tuples and any(len(value.elts) != len(elements) for value in tuples):
            return None
    text = ast.unparse(annotation)
    if text.endswith(" | None") and not any(isinstance(v, ast.Constant) and v.value is None for v in returned):
        return ast.parse(text.removesuffix(" | None"), mode="eval").body
    return annotation
