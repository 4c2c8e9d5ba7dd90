"""The frame of an ejected file: the block, the model, generation and loading, written from templates."""

from __future__ import annotations

import ast
import textwrap

from gptzoo.component import Component, Config
from gptzoo.components.part import Part
from gptzoo.components.positional import Positional
from gptzoo.eject.names import norm_name
from gptzoo.eject.passes.fold import fold
from gptzoo.eject.passes.program import Program
from gptzoo.eject.passes.prune import context_fields
from gptzoo.eject.passes.scope import Scope
from gptzoo.eject.passes.unit import Unit
from gptzoo.eject.syntax.clean import clean
from gptzoo.eject.syntax.merge import merged_methods, without_docstring
from gptzoo.eject.syntax.write import write


class Frame:
    """The text of the classes and functions that surround the parts."""

    def __init__(self, program: Program):
        self.program = program
        self.model = program.model
        self.spec = program.model.spec
        self.names: tuple[str, ...] = self.model.blocks[0].names
        self.columns = {name: [self._unit(getattr(b, name)) for b in self.model.blocks] for name in self.names}
        self.fields = context_fields(program)
        self.stateful = [n for n in self.names if any("new_state" in u.methods for u in self.columns[n])]
        self.block_takes_layer = any(
            len({unit.name for unit in column}) > 1 or column[0].needs_layer for column in self.columns.values()
        )
        self.rotates = "tables" in self.fields
        self.biases = "self_bias" in self.fields

    def _unit(self, part: Part) -> Unit:
        return self.program.unit_of(type(part), part.config)

    # ------------------------------------------------------------------ block

    def block(self) -> str:
        """Return the class of a block, with the loop of its norm unrolled."""
        body = self._block_forward()
        takes_state = ", state: dict[str, Tensor] | None = None" if self.stateful else ""
        lines = [
            "class Block(nn.Module):",
            f'    """One layer: {" and ".join(self.names)}."""',
            "",
            f"    def __init__(self{', layer: int' if self.block_takes_layer else ''}):",
            "        super().__init__()",
            *(f"        self.{name} = {value}" for name, value in self._norms()),
            *(f"        self.{name} = {self._construction(name)}" for name in self.names),
            "",
            f"    def forward(self, x: Tensor, context: Context{takes_state}) -> Tensor:",
            textwrap.indent(body, " " * 8),
        ]
        return "\n".join(lines)

    def _construction(self, name: str) -> str:
        column = self.columns[name]
        names = [unit.name for unit in column]
        argument = "layer" if column[0].needs_layer else ""
        if len(set(names)) == 1:
            return f"{names[0]}({argument})"
        period = next(p for p in range(1, len(names) + 1) if all(n == names[i % p] for i, n in enumerate(names)))
        index = "layer" if period == len(names) else f"layer % {period}"
        calls = {u.name: f"{u.name}({'layer' if u.needs_layer else ''})" for u in column}
        if any(u.needs_layer for u in column):
            return f"[{', '.join(f'lambda layer: {calls[n]}' for n in names[:period])}][{index}](layer)"
        return f"[{', '.join(names[:period])}][{index}]()"

    def _norms(self) -> list[tuple[str, str]]:
        """Return the norm layers of a block and the expressions that build them."""
        norm = self.model.blocks[0].norm
        result = []
        for group, layers in norm.named_children():
            for key in layers:
                built = self._built_norm(norm.config.layer)
                result.append((norm_name(group, key), built))
        return result

    def _built_norm(self, config: Config) -> str:
        return write([ast.Expr(self.program.construction(config, [ast.Name("D_MODEL", ast.Load())]))])

    def _block_forward(self) -> str:
        norm = self.model.blocks[0].norm
        unit = Unit("Norm", type(norm), instances=[b.norm for b in self.model.blocks], config=norm.config)
        raw = merged_methods(type(norm), lambda base: self.program.is_ours(base) and base is not Component)
        self.program.folding = "forward"
        sublayers = {name: ast.Name(f"sublayer_{name}", ast.Load()) for name in self.names}
        forward = fold(raw["forward"], Scope(self.program, unit, {"sublayers": sublayers}))
        forward = _Calls({name: self._arguments(name) for name in self.names}, unit).visit(forward)
        forward.body = _join_temporaries(without_docstring(forward))
        clean(forward)
        return write(forward.body)

    def _arguments(self, name: str) -> list[str]:
        """Return the arguments of a sublayer other than the residual stream."""
        method = self.columns[name][0].methods["forward"]
        arguments = [a.arg for a in (*method.args.args, *method.args.kwonlyargs)][2:]
        if len(self.stateful) > 1:
            return [a if a != "state" else f"state and state['{name}']" for a in arguments]
        return arguments

    # ------------------------------------------------------------------ context

    def context(self) -> str:
        """Return the class of the context, with the fields and methods that the parts use."""
        types = {
            "positions": "Tensor  # (B|1, T), -1 is padding" if self.program.padding else "Tensor  # (1, T)",
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
        lines += [f"    {name}: {types[name]}" for name in self.fields]
        for name, method in self.program.context.methods.items():
            lines += ["", write([method], 1)] if name != "__init__" else []
        return "\n".join(lines)

    def _new_context(self, positional: str, owner: Positional | None) -> str:
        """Return the expression that makes the context of a layer."""
        values = {
            "positions": "positions",
            "no_past": "no_past=start == 0" if not self.program.padding else "no_past=no_past",
            "trivially_causal": "trivially_causal=trivially_causal",
            "positional": f"positional={positional}",
            "tables": f"tables={positional}.prepare(positions)",
            "self_bias": f"self_bias={positional}.bias(positions, positions)"
            + (" if start == 0 else None" if not self.program.padding else " if no_past else None"),
        }
        if owner is not None and type(owner).prepare is Positional.prepare:
            values["tables"] = "tables=None"
        if owner is not None and type(owner).bias is Positional.bias:
            values["self_bias"] = "self_bias=None"
        return f"Context({', '.join(values[name] for name in self.fields)})"

    # ------------------------------------------------------------------ model

    def gpt(self) -> str:
        """Return the class of the model."""
        parts = [*self._constructor(), "", *self._forward(), "", *self._new_states(), "", *self._generate(), ""]
        parts += self._init_weights()
        if any(
            "after_optimizer_step" in unit.methods and unit.updates_after_step for unit in self.program.units.values()
        ):
            parts += ["", *self._after_step()]
        n_parameters = sum(p.numel() for p in self.model.parameters())
        head = ["class GPT(nn.Module):", f'    """A decoder-only transformer with {n_parameters:,} parameters."""', ""]
        return "\n".join(head + [f"    {line}" if line else "" for line in parts])

    def _positional_names(self) -> list[str]:
        many = len(self.model.positionals) > 1
        return [f"self.positionals[{i}]" if many else "self.positional" for i in range(len(self.model.positionals))]

    def uses_positionals(self) -> bool:
        """Return True if the model builds its positionals, since they compute something."""
        return any(set(unit.methods) - {"__init__"} for unit in self.program.positionals) or "positional" in self.fields

    def _constructor(self) -> list[str]:
        model, lines = self.model, []
        lines += ["def __init__(self):", "    super().__init__()", "    self.embed = nn.Embedding(VOCAB_SIZE, D_MODEL)"]
        built = [f"{unit.name}()" if unit.methods else "nn.Identity()" for unit in self.program.positionals]
        if self.uses_positionals():
            many = f"self.positionals = nn.ModuleList([{', '.join(built)}])"
            lines.append("    " + (many if len(built) > 1 else f"self.positional = {built[0]}"))
        if model.embed_dropout.p:
            lines.append(f"    self.embed_dropout = nn.Dropout({model.embed_dropout.p})")
        if isinstance(model.entry, Part):
            lines.append(f"    self.embed_norm = {self._built_norm(model.entry.config)}")
        argument = "layer" if self.block_takes_layer else ""
        lines.append(f"    self.blocks = nn.ModuleList(Block({argument}) for {argument or '_'} in range(N_LAYERS))")
        if isinstance(model.exit, Part):
            lines.append(f"    self.final_norm = {self._built_norm(model.exit.config)}")
        has_bias = model.head.bias is not None
        if model.head.weight is not None:
            lines.append(f"    self.head = nn.Linear(D_MODEL, VOCAB_SIZE{'' if has_bias else ', bias=False'})")
        elif has_bias:
            lines.append("    self.head_bias = nn.Parameter(torch.zeros(VOCAB_SIZE))")
        return [*lines, "    self.init_weights()"]

    def _forward(self) -> list[str]:
        padding = self.program.padding
        states = "states: list[dict[str, Tensor]] | None = None"
        signature = f"{states}, positions: Tensor | None = None" if padding else f"{states}, start: int = 0"
        lines = [
            "def forward(",
            f"    self, tokens: Tensor, targets: Tensor | None = None, *, {signature}",
            ") -> Tensor:",
            '    """Return logits (B, T, V) for tokens (B, T), or the mean loss if there are targets (B, T).',
            "",
            "    A target of -100 is ignored.",
            "",
        ]
        if padding:
            lines += [
                "    With `states` from `new_states`, tokens attend to the tokens before them and are added to them.",
                "    `positions` (B|1, T) are then required, except in the first call; -1 is padding.",
                '    """',
                *(["    trivially_causal = positions is None"] if "trivially_causal" in self.fields else []),
                *(
                    ["    no_past = states is None or positions is None"]
                    if "no_past" in self.fields or self.biases
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
        scale = self.model.config.embed_scale
        lines = [f"    x = self.embed(tokens){'' if scale == 1 else f' * {scale}'}  # (B, T, C)"]
        for name, positional in zip(self._positional_names(), self.model.positionals, strict=True):
            if type(positional).embed is not Positional.embed:
                lines.append(f"    x = {name}.embed(x, positions)")
        lines += ["    x = self.embed_dropout(x)"] if self.model.embed_dropout.p else []
        return lines + (["    x = self.embed_norm(x)"] if isinstance(self.model.entry, Part) else [])

    def _layers(self) -> list[str]:
        names = self._positional_names()
        state = ", None if states is None else states[layer]" if self.stateful else ""
        if len(names) == 1 or not {"positional", "tables", "self_bias"} & set(self.fields):
            return [
                f"    context = {self._new_context(names[0], self.model.positionals[0])}",
                "    for layer, block in enumerate(self.blocks):",
                f"        x = block(x, context{state})",
            ]
        layers = self.model.positional_of_layer
        period = next(p for p in range(1, len(layers) + 1) if all(n == layers[i % p] for i, n in enumerate(layers)))
        index = (
            f"layer % {period}" if layers[:period] == list(range(period)) else f"{layers[:period]}[layer % {period}]"
        )
        return [
            f"    contexts = [{self._new_context('positional', None)} for positional in self.positionals]",
            "    for layer, block in enumerate(self.blocks):",
            f"        x = block(x, contexts[{index}]{state})",
        ]

    def _logits(self) -> list[str]:
        head = self.model.head
        x = "self.final_norm(x)" if isinstance(self.model.exit, Part) else "x"
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
        for name, column in self.columns.items():
            with_losses = {unit.name for unit in column if "losses" in unit.outputs}
            if with_losses:
                test = "" if with_losses == {u.name for u in column} else f"if hasattr(block.{name}, 'losses'): "
                lines.append(f"{test}loss = loss + sum(block.{name}.losses.values())")
        return lines

    def _after_step(self) -> list[str]:
        lines = [
            "def after_optimizer_step(self) -> None:",
            '    """Update the buffers that have no gradients. Call it after each optimizer step."""',
        ]
        lines += ["    for block in self.blocks:"]
        for name, column in self.columns.items():
            updating = {u.name for u in column if u.updates_after_step}
            if updating == {u.name for u in column}:
                lines.append(f"        block.{name}.after_optimizer_step(block.{name}.metrics)")
            elif updating:
                lines += [
                    f"        if hasattr(block.{name}, 'after_optimizer_step'):",
                    f"            block.{name}.after_optimizer_step(block.{name}.metrics)",
                ]
        return lines

    def _new_states(self) -> list[str]:
        call = "new_state(batch_size, max_length, device=weight.device, dtype=weight.dtype)"
        if len(self.stateful) == 1:
            state = f"block.{self.stateful[0]}.{call}"
        else:
            state = "{" + ", ".join(f"'{name}': block.{name}.{call}" for name in self.stateful) + "}"
        return [
            "def new_states(self, batch_size: int, max_length: int) -> list[dict[str, Tensor]]:",
            '    """Allocate an empty cache for up to `max_length` tokens, one entry per layer."""',
            "    weight = self.embed.weight",
            f"    return [{state} for block in self.blocks]",
        ]

    def _generate(self) -> list[str]:
        if self.program.padding:
            call = "self(new, states=states, positions=positions)[:, -1]"
            first, later = (
                "new, positions = tokens, None",
                "positions = torch.full((1, 1), tokens.shape[1], device=tokens.device)",
            )
        else:
            call, first, later = (
                "self(new, states=states, start=start)[:, -1]",
                "new, start = tokens, 0",
                "start = tokens.shape[1]",
            )
        text = f'''
            @torch.inference_mode()
            def generate(
                self, tokens: Tensor, max_new_tokens: int, *, temperature: float = 1.0, top_k: int | None = None
            ) -> Tensor:
                """Return tokens (B, T) with new ones after them. Temperature 0 takes the likeliest."""
                states = self.new_states(tokens.shape[0], tokens.shape[1] + max_new_tokens)
                {first}
                for _ in range(max_new_tokens):
                    logits = {call}
                    {later}
                    if top_k is not None:
                        smallest = logits.topk(min(top_k, VOCAB_SIZE)).values[:, -1:]
                        logits = logits.masked_fill(logits < smallest, float("-inf"))
                    if temperature == 0:
                        new = logits.argmax(-1, keepdim=True)
                    else:
                        new = (logits / temperature).softmax(-1).multinomial(1)
                    tokens = torch.cat([tokens, new], dim=1)
                return tokens
        '''
        return textwrap.dedent(text).strip().splitlines()

    def _init_weights(self) -> list[str]:
        residual = self._residual_suffixes()
        std = "INIT_STD"
        if residual:
            suffix = f'"{residual[0]}"' if len(residual) == 1 else f"({', '.join(map(repr, residual))})"
            std = f"RESIDUAL_STD if name.endswith({suffix}) else INIT_STD"
        own = any("reset_parameters" in unit.methods for unit in self.program.units.values())
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
                if self._has_biases()
                else []
            ),
            *(
                ["        elif hasattr(module, 'reset_parameters'):", "            module.reset_parameters()"]
                if own
                else []
            ),
        ]

    def _has_biases(self) -> bool:
        return any(
            getattr(m, "bias", None) is not None for m in self.model.modules() if type(m).__name__ == "Linear"
        ) or (self.model.head.weight is not None and self.model.head.bias is not None)

    def _residual_suffixes(self) -> list[str]:
        """Return the endings of the names of layers that write to the residual stream, and of no other layers."""
        names = {name: getattr(module, "writes_residual", False) for name, module in self.model.named_modules()}
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


class _Calls(ast.NodeTransformer):
    """Calls of the block's own sublayers and norm layers, in place of those of a norm scheme."""

    def __init__(self, arguments: dict[str, list[str]], norm: Unit):
        self.arguments, self.norm = arguments, norm

    def visit_Call(self, node: ast.Call) -> ast.expr:
        self.generic_visit(node)
        if isinstance(node.func, ast.Name) and node.func.id.startswith("sublayer_"):
            name = node.func.id.removeprefix("sublayer_")
            extra = [ast.parse(argument, mode="eval").body for argument in self.arguments[name]]
            return ast.Call(_own(name), [*node.args, *extra], [])
        return node

    def visit_Subscript(self, node: ast.Subscript) -> ast.expr:
        match node:
            case ast.Subscript(ast.Attribute(ast.Name(id="self"), group), ast.Constant(value=str() as key)):
                return _own(norm_name(group, key))
        self.generic_visit(node)
        return node

    def visit_Attribute(self, node: ast.Attribute) -> ast.expr:
        self.generic_visit(node)
        value = getattr(self.norm.instances[0], node.attr, None)
        is_own = isinstance(node.value, ast.Name) and node.value.id == "self"
        if node.attr in self.norm.constants and is_own:
            return ast.Constant(self.norm.constants[node.attr])
        return ast.Constant(value) if is_own and isinstance(value, int | float) else node


def _own(name: str) -> ast.Attribute:
    return ast.Attribute(ast.Name("self", ast.Load()), name, ast.Load())


def _join_temporaries(body: list[ast.stmt]) -> list[ast.stmt]:
    """Join `y = f(x); x = x + y` to one statement."""
    statements: list[ast.stmt] = []
    for statement in body:
        previous = statements[-1] if statements else None
        match previous, statement:
            case ast.Assign(targets=[ast.Name(id=name)]), ast.Assign(value=ast.BinOp(right=ast.Name(id=used))):
                if name == used:
                    statement.value.right = previous.value  # type: ignore[attr-defined]
                    statements[-1] = statement
                    continue
            case ast.Assign(targets=[ast.Name(id=name)]), ast.Assign(
                value=ast.BinOp(right=ast.BinOp(left=ast.Name(id=used)))
            ):
                if name == used:
                    statement.value.right.left = previous.value  # type: ignore[attr-defined]
                    statements[-1] = statement
                    continue
        statements.append(statement)
    return statements
