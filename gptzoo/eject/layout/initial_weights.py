"""The method of the model in an ejected file that draws initial weights."""

from __future__ import annotations

from gptzoo.eject.layout.layout import Layout


def init_weights(layout: Layout) -> list[str]:
    """Return the lines of the method."""
    residual = _residual_suffixes(layout)
    std = "INIT_STD"
    if residual:
        suffix = f'"{residual[0]}"' if len(residual) == 1 else f"({', '.join(map(repr, residual))})"
        std = f"RESIDUAL_STD if name.endswith({suffix}) else INIT_STD"
    own = any("reset_parameters" in unit.methods for unit in layout.program.units.values())
    return [
        "@torch.no_grad()",
        "def init_weights(self) -> None:",
        '    """Draw initial weights from the global generator, to train from scratch."""',
        f"    for {'name' if residual else '_'}, module in self.named_modules():",
        "        if isinstance(module, nn.Linear | nn.Embedding):",
        f"            nn.init.normal_(module.weight, std={std})",
        *(
            [
                "            if getattr(module, 'bias', None) is not None:",
                "                nn.init.zeros_(module.bias)",
            ]
            if _has_biases(layout)
            else []
        ),
        *(
            ["        elif hasattr(module, 'reset_parameters'):", "            module.reset_parameters()"]
            if own
            else []
        ),
    ]


def _has_biases(layout: Layout) -> bool:
    return any(
        getattr(m, "bias", None) is not None for m in layout.model.modules() if type(m).__name__ == "Linear"
    ) or (layout.model.head.weight is not None and layout.model.head.bias is not None)


def _residual_suffixes(layout: Layout) -> list[str]:
    """Return the endings of the names of layers that write to the residual stream, and of no other layers."""
    names = {name: getattr(module, "writes_residual", False) for name, module in layout.model.named_modules()}
    endings = dict.fromkeys(_after_last_index(name) for name, writes in names.items() if writes)
    others = [name for name, writes in names.items() if not writes]
    if any(name.endswith(ending) for name in others for ending in endings):
        endings = dict.fromkeys(name.split(".", 2)[2] for name, writes in names.items() if writes)
    return list(endings)


def _after_last_index(name: str) -> str:
    """Return `.down` for `blocks.0.ffn.experts.1.down`, and `ffn.down` for `blocks.0.ffn.down`."""
    parts = name.split(".")
    last = max(index for index, part in enumerate(parts) if part.isdigit())
    ending = ".".join(parts[last + 1 :])
    return ending if "." in ending else f".{ending}"
