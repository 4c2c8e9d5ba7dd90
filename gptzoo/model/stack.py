"""Blocks one upon the other, between embeddings and head: what architectures have in common."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from gptzoo.components.context import ForwardContext
from gptzoo.components.sublayer import AuxiliaryOutputs, State, Sublayer, SublayerOutput
from gptzoo.model.architecture import Architecture
from gptzoo.model.block import Block

if TYPE_CHECKING:
    from gptzoo.component import Config
    from gptzoo.dims import Dims
    from gptzoo.spec.model import ModelSpec

States = list[dict[str, State]]  # by layer and sublayer


class Stack(Architecture):
    """Base of architectures made of blocks: the positions that they share, the blocks, what the norm puts at the ends.

    A subclass says what goes in (embeddings) and what comes out (a head), and in `sublayers` what a block is made of.
    """

    blocks: Any  # nn.ModuleList of Block
    positionals: Any  # nn.ModuleList of Positional, one for each distinct config
    decode: Callable[[Stack, Tensor, ForwardContext, States], SublayerOutput] | None = None
    """Computes, in place of `through`, one token of each row that goes on from a cache."""
    own_heads: Callable[[Tensor], Tensor] | None = None
    """Of a score bias (B|1, H, T, S) that of the heads which this process has, where processes share them."""

    def __init__(self, config: Config, spec: ModelSpec):
        super().__init__(config, spec)
        dims = spec.dims
        self.blocks = nn.ModuleList()
        for layer in range(spec.n_layers):
            here = replace(dims, layer=layer)
            sublayers = self.sublayers(here)
            self.blocks.append(Block(spec.norm.build(here, list(sublayers)), sublayers))

        widths = (getattr(sublayer, "rotary_dim", None) for sublayer in self.blocks.modules())
        rotary_dims = frozenset(width for width in widths if width is not None)
        per_layer = spec.per_layer("positional")
        distinct = [config for layer, config in enumerate(per_layer) if config not in per_layer[:layer]]
        self.positionals = nn.ModuleList(positional.build(dims, rotary_dims) for positional in distinct)
        self.positional_of_layer = [distinct.index(positional) for positional in per_layer]

        self.entry = spec.norm.component.entry(spec.norm, dims)
        self.exit = spec.norm.component.exit(spec.norm, dims)

    def sublayers(self, dims: Dims) -> dict[str, Sublayer]:
        """The sublayers of block number `dims.layer`, by name, in the order in which the norm gets them."""
        return {name: self.spec.per_layer(name)[dims.layer or 0].build(dims) for name in ("attention", "ffn")}

    def embed_positions(self, x: Tensor, positions: Tensor) -> Tensor:
        """Token embeddings (B, T, C) -> (B, T, C), with what the positionals add to them."""
        for positional in self.positionals:
            x = positional.embed(x, positions)
        return x

    def run(
        self,
        x: Tensor,
        context: ForwardContext,
        states: States | None = None,
        auxiliary: AuxiliaryOutputs | None = None,
    ) -> Tensor:
        """Embeddings (B, T, C) through all the blocks -> (B, T, C). The positionals of `context` are filled in here.

        What the sublayers emit goes into `auxiliary`, under the path of each in this stack. Asked for "residual",
        the stack adds the residual stream itself: `residual` that comes into the first block, `blocks.<i>.residual`
        that comes out of each; asked for "hidden", what it returns as `hidden`. All are (B, T, C).
        """
        going_on = states is not None and not context.no_past
        if going_on and context.positions.is_cpu:
            last = context.positions if context.positions.numel() == 1 else context.positions.amax()
            context = replace(context, position_limit=int(last) + 1)
        if self.decode is not None and states is not None and going_on and x.shape[1] == 1:
            emitted = self.decode(self, x, context, states)
        else:
            emitted = self.through(x, context, states)
        if auxiliary is not None:
            auxiliary.add("", emitted)
        return emitted.y

    def through(self, x: Tensor, context: ForwardContext, states: States | None) -> SublayerOutput:
        """Embeddings (B, T, C) through the stack, with all that `run` observes."""
        x = self.entry(x)
        seen = AuxiliaryOutputs()
        if "residual" in context.capture:
            seen.captures["residual"] = x
        contexts = [self._step_of(positional, context) for positional in self.positionals]
        for layer, block in enumerate(self.blocks):
            emitted = block(x, contexts[self.positional_of_layer[layer]], None if states is None else states[layer])
            x = emitted.y
            seen.add(f"blocks.{layer}.", emitted)
            if "residual" in context.capture:
                seen.captures[f"blocks.{layer}.residual"] = x
        x = self.exit(x)
        if "hidden" in context.capture:
            seen.captures["hidden"] = x
        return SublayerOutput(x, seen.losses, seen.metrics, seen.captures)

    def _step_of(self, positional: Any, context: ForwardContext) -> ForwardContext:
        positions = context.positions
        # Among the new tokens alone the bias is the same in every layer; against a cache it is not known beforehand.
        bias = positional.bias(positions, positions) if context.no_past else None
        if bias is not None and self.own_heads is not None:
            bias = self.own_heads(bias)
        return replace(context, positional=positional, tables=positional.prepare(positions), self_bias=bias)

    def new_states(
        self, batch_size: int, max_length: int, *, device: Any = None, dtype: torch.dtype | None = None
    ) -> States:
        """Empty states for `batch_size` rows of up to `max_length` tokens: a dict of tensors per sublayer and layer."""
        weight = next(self.parameters())
        device, dtype = device or weight.device, dtype or weight.dtype
        return [
            {
                name: state
                for name in block.names
                if (state := getattr(block, name).new_state(batch_size, max_length, device=device, dtype=dtype))
                is not None
            }
            for block in self.blocks
        ]

    @property
    def max_length(self) -> int | None:
        """The longest sequence that all of its positionals can place, or None."""
        limits = [p.max_length for p in self.positionals if p.max_length is not None]
        return min(limits, default=None)
