"""The GPT itself: embeddings, blocks, head."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import torch
from pydantic import PositiveFloat
from torch import Tensor, nn

from gptzoo.component import inherited
from gptzoo.components.base import Architecture, Observations, Rng, State, Step
from gptzoo.model.block import Block
from gptzoo.model.head import Head

if TYPE_CHECKING:
    from gptzoo.spec.model import ModelSpec


class Decoder(Architecture):
    """A decoder-only transformer: every token sees itself and the past."""

    name = "decoder"
    paper = "Radford et al. 2019, Language Models are Unsupervised Multitask Learners (GPT-2)"

    class Config(Architecture.Config):
        embed_dropout: float | None = inherited("dropout", "Of the sum of token and position embeddings.")
        head_bias: bool = False
        """GPT-2 and its descendants have none, so it does not inherit the model's `bias`."""
        init_std: PositiveFloat = 0.02
        """Standard deviation of initial weights; those that write the residual stream get 1/sqrt(2 n_layers) of it."""

    blocks: Any  # nn.ModuleList of Block
    positionals: Any  # nn.ModuleList of Positional, one for each distinct config

    def __init__(self, config: Any, spec: ModelSpec):
        super().__init__(config, spec)
        dims = spec.dims
        self.embed = nn.Embedding(dims.vocab_size, dims.d_model)
        self.embed_dropout = nn.Dropout(config.embed_dropout)

        self.blocks = nn.ModuleList()
        for attention, ffn in zip(spec.per_layer("attention"), spec.per_layer("ffn"), strict=True):
            sublayers = {"attention": attention.build(dims), "ffn": ffn.build(dims)}
            self.blocks.append(Block(spec.norm.build(dims, list(sublayers)), sublayers))

        rotary_dims = frozenset(block.attention.rotary_dim for block in self.blocks) - {None}
        per_layer = spec.per_layer("positional")
        distinct = [config for layer, config in enumerate(per_layer) if config not in per_layer[:layer]]
        self.positionals = nn.ModuleList(positional.build(dims, rotary_dims) for positional in distinct)
        self.positional_of_layer = [distinct.index(positional) for positional in per_layer]

        self.entry = spec.norm.component.entry(spec.norm, dims)
        self.exit = spec.norm.component.exit(spec.norm, dims)
        self.head = Head(dims.d_model, dims.vocab_size, tied=spec.tie_embeddings, bias=config.head_bias)

    def initialise(self, rng: Rng) -> None:
        if self.head.weight is not None:
            nn.init.normal_(self.head.weight, std=self.config.init_std, generator=rng("head.weight"))
        if self.head.bias is not None:
            nn.init.zeros_(self.head.bias)

    def forward(
        self,
        tokens: Tensor,
        targets: Tensor | None = None,
        *,
        positions: Tensor | None = None,
        documents: Tensor | None = None,
        states: list[dict[str, State]] | None = None,
        fresh: bool = False,
        last_only: bool = False,
        capture: Iterable[str] = (),
        observations: Observations | None = None,
    ) -> tuple[Tensor | None, Tensor | None]:
        """Tokens (B, T) -> logits (B, T, V), None; with targets (B, T) -> None, the mean cross-entropy in nats.

        In training mode the loss has what the sublayers emit as losses added to it.

        positions: (B|1, T), -1 for padding; left out, they are 0..T-1 (without states only).
        documents: (B, T) ids of packed documents; attention stays inside each.
        states: from `new_states`; read, and extended by these tokens. `fresh` promises that they are still empty.
        last_only: logits of the last position alone, (B, 1, V).
        capture: what the sublayers shall emit for inspection, such as "attention".
        observations: filled with the losses, metrics and captures of the sublayers.
        """
        self._check(tokens, positions, documents, going_on=states is not None and not fresh)
        plain = positions is None and documents is None and (states is None or fresh)
        if positions is None:
            positions = torch.arange(tokens.shape[1], device=tokens.device)[None]  # (1, T)

        x = self.embed(tokens)  # (B, T, C)
        for positional in self.positionals:
            x = positional.embed(x, positions)
        x = self.entry(self.embed_dropout(x))

        steps = [
            Step(
                positions,
                positional,
                tables=positional.prepare(positions),
                self_bias=positional.bias(positions, positions) if states is None or fresh else None,
                documents=documents,
                plain=plain,
                fresh=states is None or fresh,
                capture=frozenset(capture),
            )
            for positional in self.positionals
        ]
        seen = Observations() if observations is None else observations
        for layer, block in enumerate(self.blocks):
            emitted = block(x, steps[self.positional_of_layer[layer]], None if states is None else states[layer])
            x = emitted.y
            for own, everyone in zip(emitted[1:], (seen.losses, seen.metrics, seen.captures), strict=True):
                everyone.update({f"blocks.{layer}.{name}": tensor for name, tensor in own.items()})

        x = self.exit(x)
        if targets is None:
            return self.head(x[:, -1:] if last_only else x, self.embed.weight), None
        loss = self.head.loss(x, self.embed.weight, targets)
        if self.training:
            loss = sum(seen.losses.values(), start=loss)
        return None, loss

    def _check(self, tokens: Tensor, positions: Tensor | None, documents: Tensor | None, *, going_on: bool) -> None:
        """Refuse, by ValueError, what would be wrong in silence or end in an assertion on the device."""
        if positions is None and going_on:
            raise ValueError("positions are needed to go on from cached states")
        if positions is None and self.max_length is not None and tokens.shape[1] > self.max_length:
            raise ValueError(f"{tokens.shape[1]} tokens are more than positions reach, which is {self.max_length}")
        if documents is not None and going_on:
            raise ValueError("a cache does not keep which document a token is of")
        for attention in self.spec.per_layer("attention") if documents is not None else ():
            if "documents" not in attention.component.honours:
                raise ValueError(f"attention {attention.type!r} does not keep documents apart")

    def new_states(
        self, batch_size: int, max_length: int, *, device: Any = None, dtype: torch.dtype | None = None
    ) -> list[dict[str, State]]:
        """Empty states for `batch_size` rows of up to `max_length` tokens: a dict of tensors per sublayer and layer."""
        weight = self.embed.weight
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
