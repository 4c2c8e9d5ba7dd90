"""The fused parameters of a model, as its parts declare them."""

from __future__ import annotations

from torch import nn

from gptzoo.components.part import FusedBlocks, Part


def fused_blocks(model: nn.Module) -> dict[str, FusedBlocks]:
    """Return the matrices in each parameter that holds several, by the parameter's name in the model.

    Raises RuntimeError if a part declares a parameter that does not exist, or blocks that do not cover all of its rows.
    """
    declared: dict[str, FusedBlocks] = {}
    for path, part in model.named_modules():
        if isinstance(part, Part):
            parameters = dict(part.named_parameters())
            for name, blocks in part.fused_blocks().items():
                label = f"{part.kind} {part.name!r}: fused_blocks declares {name}"
                if name not in parameters:
                    raise RuntimeError(f"{label}, but the part has no such parameter")
                if min((blocks.repeats, *blocks.sizes), default=0) < 1 or len(blocks.sizes) < 2:
                    raise RuntimeError(f"{label} with the sizes {blocks.sizes}: expected two or more, each at least 1")
                if parameters[name].ndim == 0 or blocks.n_rows != (n_rows := parameters[name].shape[0]):
                    has = "is a scalar" if parameters[name].ndim == 0 else f"has {n_rows} rows"
                    raise RuntimeError(f"{label} with {blocks.n_rows} rows in its blocks, but the parameter {has}")
                declared[f"{path}.{name}" if path else name] = blocks
    return declared
