"""The GPT itself: embeddings, blocks, head."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import torch
from pydantic import PositiveFloat
from torch import Tensor, nn

from gptzoo.component import inherited
from gptzoo.components.context import ForwardContext
from gptzoo.components.part import Rng
from gptzoo.components.sublayer import AuxiliaryOutputs, State
from gptzoo.model.head import Head
from gptzoo.model.stack import Stack

if TYPE_CHECKING:
    from gptzoo.spec.model import ModelSpec


class Decoder(Stack):
    """A decoder-only transformer: every token sees itself and the past."""

    name = "decoder"
    paper = "Radford et al. 2019, Language Models are Unsupervised Multitask Learners (GPT-2)"
    accepted_inputs = frozenset({"positions", "documents"})

    class Config(Stack.Config):
        embed_dropout: float | None = inherited("dropout", "Of the sum of token and position embeddings.")
        head_bias: bool = False
        """GPT-2 and its descendants have none, so it does not inherit the model's `bias`."""
        init_std: PositiveFloat = 0.02
        """Standard deviation of initial weights; those that write the residual stream get 1/sqrt(2 n_layers) of it."""

    def __init__(self, config: Any, spec: ModelSpec):
        super().__init__(config, spec)
        dims = spec.dims
        self.embed = nn.Embedding(dims.vocab_size, dims.d_model)
        self.embed_dropout = nn.Dropout(config.embed_dropout)
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
        no_past: bool = False,
        last_only: bool = False,
        capture: Iterable[str] = (),
        auxiliary: AuxiliaryOutputs | None = None,
    ) -> tuple[Tensor | None, Tensor | None]:
        """Tokens (B, T) -> logits (B, T, V), None; with targets (B, T) -> None, the mean cross-entropy in nats.

        In training mode the loss has what the sublayers emit as losses added to it.

        positions: (B|1, T), -1 for padding; left out, they are 0..T-1 (without states only).
        documents: (B, T) ids of packed documents; attention stays inside each.
        states: from `new_states`; read, and extended by these tokens. `no_past` promises that they are still empty.
        last_only: logits of the last position alone, (B, 1, V).
        capture: what to show for inspection: "attention" of the sublayers, "residual" and "hidden" of the stack.
        observations: filled with the losses, metrics and captures of the sublayers, and of the stack.
        """
        self._check(tokens, positions, documents, going_on=states is not None and not no_past)
        trivially_causal = positions is None and documents is None and (states is None or no_past)
        if positions is None:
            positions = torch.arange(tokens.shape[1], device=tokens.device)[None]  # (1, T)
        x = self.embed_dropout(self.embed_positions(self.embed(tokens), positions))  # (B, T, C)
        context = ForwardContext(
            positions,
            documents=documents,
            trivially_causal=trivially_causal,
            no_past=states is None or no_past,
            capture=frozenset(capture),
        )
        seen = AuxiliaryOutputs() if auxiliary is None else auxiliary
        x = self.run(x, context, states, seen)

        if targets is None:
            return self.head(x[:, -1:] if last_only else x, self.embed.weight), None
        loss = self.head.loss(x, self.embed.weight, targets, seen)
        if self.training:
            loss = sum(seen.losses.values(), start=loss)
        return None, loss

    def readout(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(self.exit(x), self.embed.weight)
        return logits

    def _check(self, tokens: Tensor, positions: Tensor | None, documents: Tensor | None, *, going_on: bool) -> None:
        """Refuse, by ValueError, what would be wrong in silence or end in an assertion on the device."""
        if positions is None and going_on:
            raise ValueError("positions are needed to go on from cached states")
        if positions is None and self.max_length is not None and tokens.shape[1] > self.max_length:
            raise ValueError(f"{tokens.shape[1]} tokens are more than positions reach, which is {self.max_length}")
        if documents is not None and going_on:
            raise ValueError("a cache does not keep which document a token is of")
        for attention in self.spec.per_layer("attention") if documents is not None else ():
            if "documents" not in attention.component.supports:
                raise ValueError(f"attention {attention.type!r} does not keep documents apart")
