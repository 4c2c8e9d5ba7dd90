"""`Stack`, the base class of architectures that are a stack of blocks between embeddings and head."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from gptzoo.components.context import ForwardContext
from gptzoo.components.positional import Positional
from gptzoo.components.sublayer import AuxiliaryOutputs, Sublayer, SublayerOutput
from gptzoo.model.architecture import Architecture, States
from gptzoo.model.block import Block

if TYPE_CHECKING:
    from gptzoo.dims import Dims
    from gptzoo.spec.model import ModelSpec


class Stack(Architecture):
    """Base class of architectures made of blocks. It owns the blocks, the positionals and the norms at both ends.

    A subclass adds embeddings and a head. It may override `sublayers`, which makes the sublayers of a block.
    """

    blocks: Any  # nn.ModuleList of Block
    positionals: Any  # nn.ModuleList of Positional, one for each distinct config
    compiled_decode_step: Callable[[Stack, Tensor, ForwardContext, States], SublayerOutput] | None = None
    """Replacement of `forward_blocks` for decode steps: one new token per row, with a past in the cache."""
    slice_bias: Callable[[Tensor], Tensor] | None = None
    """Under tensor parallelism, slices a score bias (B|1, H, T, S) to the heads of this rank."""

    def __init__(self, config: Architecture.Config, spec: ModelSpec):
        super().__init__(config, spec)
        dims = spec.dims
        self.blocks = nn.ModuleList()
        for layer in range(spec.n_layers):
            layer_dims = replace(dims, layer=layer)
            sublayers = self.sublayers(layer_dims)
            self.blocks.append(Block(spec.norm.build(layer_dims, list(sublayers)), sublayers))

        widths = (getattr(sublayer, "rotary_dim", None) for sublayer in self.blocks.modules())
        rotary_dims = frozenset(width for width in widths if width is not None)
        per_layer = spec.per_layer("positional")
        distinct = [config for layer, config in enumerate(per_layer) if config not in per_layer[:layer]]
        self.positionals = nn.ModuleList(positional.build(dims, rotary_dims) for positional in distinct)
        self.positional_of_layer = [distinct.index(positional) for positional in per_layer]

        self.entry = spec.norm.component.entry(spec.norm, dims)
        self.exit = spec.norm.component.exit(spec.norm, dims)

    def sublayers(self, dims: Dims) -> dict[str, Sublayer]:
        """Return the sublayers of block `dims.layer` by name, in the order in which the norm receives them."""
        return {name: self.spec.per_layer(name)[dims.layer or 0].build(dims) for name in ("attention", "ffn")}

    def embed_positions(self, x: Tensor, positions: Tensor) -> Tensor:
        """Add the position embeddings of all positionals to token embeddings (B, T, C)."""
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
        """Pass embeddings (B, T, C) through all blocks and return (B, T, C).

        The stack sets the positional, tables and self_bias of `context` for each layer. Auxiliary outputs of the
        sublayers are added to `auxiliary` under their path in this stack. The stack has captures of its own, each
        (B, T, C). For "residual" in `context.capture` these are `residual`, the input of the first block, and
        `blocks.<i>.residual`, the output of each block. For "hidden" it is `hidden`, the result of this method.
        """
        has_past = states is not None and not context.no_past
        if has_past and context.positions.is_cpu:
            last = context.positions if context.positions.numel() == 1 else context.positions.amax()
            context = replace(context, position_limit=int(last) + 1)
        if self.compiled_decode_step is not None and states is not None and has_past and x.shape[1] == 1:
            output = self.compiled_decode_step(self, x, context, states)
        else:
            output = self.forward_blocks(x, context, states)
        if auxiliary is not None:
            auxiliary.add("", output)
        return output.y

    def forward_blocks(self, x: Tensor, context: ForwardContext, states: States | None) -> SublayerOutput:
        """Pass embeddings (B, T, C) through all blocks and return the result with all auxiliary outputs."""
        x = self.entry(x)
        auxiliary = AuxiliaryOutputs()
        if "residual" in context.capture:
            auxiliary.captures["residual"] = x
        contexts = [self._context_for(positional, context) for positional in self.positionals]
        for layer, block in enumerate(self.blocks):
            output = block(x, contexts[self.positional_of_layer[layer]], None if states is None else states[layer])
            x = output.y
            auxiliary.add(f"blocks.{layer}.", output)
            if "residual" in context.capture:
                auxiliary.captures[f"blocks.{layer}.residual"] = x
        x = self.exit(x)
        if "hidden" in context.capture:
            auxiliary.captures["hidden"] = x
        return SublayerOutput(x, auxiliary.losses, auxiliary.metrics, auxiliary.captures)

    def _context_for(self, positional: Positional, context: ForwardContext) -> ForwardContext:
        positions = context.positions
        # The bias among new tokens is the same in every layer. Against a cache, it depends on the layer's slots.
        bias = positional.bias(positions, positions) if context.no_past else None
        if bias is not None and self.slice_bias is not None:
            bias = self.slice_bias(bias)
        return replace(context, positional=positional, tables=positional.prepare(positions), self_bias=bias)

    def new_states(
        self,
        batch_size: int,
        max_length: int,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> States:
        """Allocate empty states for `batch_size` rows of up to `max_length` tokens, by layer and sublayer.

        By default, they are on the device and in the dtype of the weights.
        """
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
        """The longest sequence that all positionals support, or None for no limit."""
        limits = [p.max_length for p in self.positionals if p.max_length is not None]
        return min(limits, default=None)
