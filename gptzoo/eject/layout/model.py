"""The class of the model in an ejected file: its constructor and its forward pass."""

from __future__ import annotations

from gptzoo.components.part import Part
from gptzoo.components.positional import Positional
from gptzoo.eject.layout.context import new_context
from gptzoo.eject.layout.generation import after_optimizer_step, generate, new_states
from gptzoo.eject.layout.initial_weights import init_weights
from gptzoo.eject.layout.layout import Layout


class ModelWriter:
    """Writes the class of the model."""

    def __init__(self, layout: Layout):
        self.layout = layout

    def text(self) -> str:
        """Return the text of the class."""
        layout = self.layout
        methods = [self._constructor(), self._forward(), new_states(layout), generate(layout), init_weights(layout)]
        units = layout.program.units.values()
        if any("after_optimizer_step" in unit.methods and unit.updates_after_step for unit in units):
            methods.append(after_optimizer_step(layout))
        n_parameters = sum(p.numel() for p in layout.model.parameters())
        lines = ["class GPT(nn.Module):", f'    """A decoder-only transformer with {n_parameters:,} parameters."""']
        for method in methods:
            lines += ["", *(f"    {line}" if line else "" for line in method)]
        return "\n".join(lines)

    def _constructor(self) -> list[str]:
        model, lines = self.layout.model, []
        lines += ["def __init__(self):", "    super().__init__()", "    self.embed = nn.Embedding(VOCAB_SIZE, D_MODEL)"]
        built = [f"{unit.name}()" if unit.methods else "nn.Identity()" for unit in self.layout.program.positionals]
        if self.layout.uses_positionals():
            many = f"self.positionals = nn.ModuleList([{', '.join(built)}])"
            lines.append("    " + (many if len(built) > 1 else f"self.positional = {built[0]}"))
        if model.embed_dropout.p:
            lines.append(f"    self.embed_dropout = nn.Dropout({model.embed_dropout.p})")
        if isinstance(model.entry, Part):
            lines.append(f"    self.embed_norm = {self.layout.built_norm(model.entry.config)}")
        argument = "layer" if self.layout.block_takes_layer else ""
        lines.append(f"    self.blocks = nn.ModuleList(Block({argument}) for {argument or '_'} in range(N_LAYERS))")
        if isinstance(model.exit, Part):
            lines.append(f"    self.final_norm = {self.layout.built_norm(model.exit.config)}")
        has_bias = model.head.bias is not None
        if model.head.weight is not None:
            lines.append(f"    self.head = nn.Linear(D_MODEL, VOCAB_SIZE{'' if has_bias else ', bias=False'})")
        elif has_bias:
            lines.append("    self.head_bias = nn.Parameter(torch.zeros(VOCAB_SIZE))")
        return [*lines, "    self.init_weights()"]

    def _forward(self) -> list[str]:
        padding = self.layout.program.padding
        states = "states: list[dict[str, Tensor]] | None = None"
        signature = f"{states}, positions: Tensor | None = None" if padding else f"{states}, start: int = 0"
        lines = [
            "def forward(",
            f"    self, tokens: Tensor, targets: Tensor | None = None, *, {signature}",
            ") -> Tensor:",
            '    """Return logits (B, T, V) for tokens (B, T), or the mean loss if there are targets (B, T).',
            "",
            "    The target of a position is its next token: they are not shifted here. A target of -100 is ignored.",
            "",
        ]
        if padding:
            lines += [
                "    With `states` from `new_states`, tokens attend to the tokens before them and are added to them.",
                "    `positions` (B|1, T) are then required, except in the first call; -1 is padding.",
                '    """',
                *(["    trivially_causal = positions is None"] if "trivially_causal" in self.layout.fields else []),
                *(
                    ["    no_past = states is None or positions is None"]
                    if "no_past" in self.layout.fields or self.layout.has_score_bias
                    else []
                ),
                "    if positions is None:",
                "        positions = torch.arange(tokens.shape[1], device=tokens.device)[None]  # (1, T)",
            ]
        else:
            lines += [
                "    `states` from `new_states` hold the `start` tokens before these, and these are added.",
                '    """',
                "    positions = torch.arange(start, start + tokens.shape[1], device=tokens.device)[None]  # (1, T)",
            ]
        lines += self._embedding() + self._layers()
        lines += self._logits()
        return lines

    def _embedding(self) -> list[str]:
        scale = self.layout.model.config.embed_scale
        lines = [f"    x = self.embed(tokens){'' if scale == 1 else f' * {scale}'}  # (B, T, C)"]
        for name, positional in zip(self.layout.positional_names(), self.layout.model.positionals, strict=True):
            if type(positional).embed is not Positional.embed:
                lines.append(f"    x = {name}.embed(x, positions)")
        lines += ["    x = self.embed_dropout(x)"] if self.layout.model.embed_dropout.p else []
        return lines + (["    x = self.embed_norm(x)"] if isinstance(self.layout.model.entry, Part) else [])

    def _layers(self) -> list[str]:
        names = self.layout.positional_names()
        state = ", None if states is None else states[layer]" if self.layout.stateful else ""
        if len(names) == 1 or not {"positional", "tables", "self_bias"} & set(self.layout.fields):
            return [
                f"    context = {new_context(self.layout, names[0], self.layout.model.positionals[0])}",
                "    for layer, block in enumerate(self.blocks):",
                f"        x = block(x, context{state})",
            ]
        layers = self.layout.model.positional_of_layer
        period = next(p for p in range(1, len(layers) + 1) if all(n == layers[i % p] for i, n in enumerate(layers)))
        index = (
            f"layer % {period}" if layers[:period] == list(range(period)) else f"{layers[:period]}[layer % {period}]"
        )
        return [
            f"    contexts = [{new_context(self.layout, 'positional', None)} for positional in self.positionals]",
            "    for layer, block in enumerate(self.blocks):",
            f"        x = block(x, contexts[{index}]{state})",
        ]

    def _logits(self) -> list[str]:
        head = self.layout.model.head
        x = "self.final_norm(x)" if isinstance(self.layout.model.exit, Part) else "x"
        bias = "" if head.bias is None else ", self.head_bias"
        logits = f"self.head({x})" if head.weight is not None else f"F.linear({x}, self.embed.weight{bias})"
        lines = [f"    logits = {logits}{'' if head.scale == 1 else f' * {head.scale}'}"]
        if head.softcap is not None:
            lines.append(f"    logits = {head.softcap} * torch.tanh(logits / {head.softcap})")
        loss = "F.cross_entropy(logits.flatten(0, 1).float(), targets.flatten(), ignore_index=-100)"
        lines += ["    if targets is None:", "        return logits"]
        if not (sources := self._loss_sources()):
            return [*lines, f"    return {loss}"]
        return [
            *lines,
            f"    loss = {loss}",
            "    if self.training:",
            "        for block in self.blocks:",
            *(f"            {line}" for line in sources),
            "    return loss",
        ]

    def _loss_sources(self) -> list[str]:
        """Return the statements that add the auxiliary losses of a block."""
        lines = []
        for name, column in self.layout.columns.items():
            with_losses = {unit.name for unit in column if "losses" in unit.outputs}
            if with_losses:
                test = "" if with_losses == {u.name for u in column} else f"if hasattr(block.{name}, 'losses'): "
                lines.append(f"{test}loss = loss + sum(block.{name}.losses.values())")
        return lines
