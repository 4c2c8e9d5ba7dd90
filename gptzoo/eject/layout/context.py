"""The context of an ejected file: its class, and the expression that makes one."""

from __future__ import annotations

from gptzoo.components.positional import Positional
from gptzoo.eject.layout.layout import Layout
from gptzoo.eject.syntax.write import write


def context_class(layout: Layout) -> str:
    """Return the class of the context, with the fields and methods that the parts use."""
    types = {
        "positions": "Tensor  # (B|1, T), -1 is padding" if layout.program.padding else "Tensor  # (1, T)",
        "no_past": "bool  # the cache is empty",
        "trivially_causal": "bool  # positions are 0..T-1 and the cache is empty",
        "positional": "nn.Module  # of the layer",
        "tables": "object  # what the positions rotate queries and keys by",
        "self_bias": "Tensor | None  # score bias among the new tokens",
    }
    lines = [
        "@dataclass",
        "class Context:",
        '    """The inputs that the layers share besides the residual stream."""',
        "",
    ]
    lines += [f"    {name}: {types[name]}" for name in layout.fields]
    for name, method in layout.program.context.methods.items():
        lines += ["", write([method], 1)] if name != "__init__" else []
    return "\n".join(lines)


def new_context(layout: Layout, positional: str, owner: Positional | None) -> str:
    """Return the expression that makes the context of a layer."""
    values = {
        "positions": "positions",
        "no_past": "no_past=start == 0" if not layout.program.padding else "no_past=no_past",
        "trivially_causal": "trivially_causal=trivially_causal",
        "positional": f"positional={positional}",
        "tables": f"tables={positional}.prepare(positions)",
        "self_bias": f"self_bias={positional}.bias(positions, positions)"
        + (" if start == 0 else None" if not layout.program.padding else " if no_past else None"),
    }
    if owner is not None and type(owner).prepare is Positional.prepare:
        values["tables"] = "tables=None"
    if owner is not None and type(owner).bias is Positional.bias:
        values["self_bias"] = "self_bias=None"
    return f"Context({', '.join(values[name] for name in layout.fields)})"
