"""The built-in architecture `decoder`: embeddings, blocks and an output head."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Annotated

import torch
from pydantic import Field
from torch import Tensor, nn

from gptzoo.component import Inherited, inherited
from gptzoo.components.context import ForwardContext
from gptzoo.components.part import Fans, Rng
from gptzoo.components.sublayer import AuxiliaryOutputs
from gptzoo.dims import Dims
from gptzoo.model.architecture import States
from gptzoo.model.head import Head
from gptzoo.model.stack import Stack

if TYPE_CHECKING:
    from gptzoo.spec.model import ModelSpec


class Decoder(Stack):
    """A decoder-only transformer: every token attends to itself and to earlier tokens."""

    name = "decoder"
    paper = "Radford et al. 2019, Language Models are Unsupervised Multitask Learners (GPT-2)"
    accepted_inputs = frozenset({"positions", "documents"})

    class Config(Stack.Config):
        training_only = frozenset({"init_std"})
        embed_scale: float = Field(default=1.0, ge=1e-3, le=1e3)
        """Factor on the token embeddings (sqrt(d_model) in Gemma and in the original Transformer)."""
        embed_dropout: Inherited[float] = inherited("dropout")
        """Dropout probability for the sum of token and position embeddings."""
        head_bias: bool = False
        """Learn a bias in the output head, independent of the model's `bias`. Default: false, as in GPT-2."""
        logit_scale: float = Field(default=1.0, ge=1e-3, le=100.0)
        """Factor on the logits (Cohere; the reciprocal of Granite's `logits_scaling`)."""
        logit_softcap: Annotated[float, Field(ge=1.0)] | None = None
        """Soft cap: logits become cap * tanh(logit / cap), after `logit_scale` (30 in Gemma 2, arXiv:2408.00118). Null:
        no cap."""
        init_std: float = Field(default=0.02, ge=1e-6, le=2.0)
        """Standard deviation of the initial weights. The norm scheme scales it down for the layers that write to the
        residual stream, by 1/sqrt(2 n_layers) in `pre_ln`. Near 0 the gradients are 0, and nothing is trained."""

        def at_width(self, base: Dims, dims: Dims) -> Decoder.Config:
            if self.head_bias:
                raise ValueError("has a head_bias, which the factor on the logits would shrink. Set head_bias to false")
            return self.model_copy(update={"logit_scale": self.logit_scale * base.d_model / dims.d_model})

    config: Config

    def __init__(self, config: Config, spec: ModelSpec):
        super().__init__(config, spec)
        dims = spec.dims
        self.embed = nn.Embedding(dims.vocab_size, dims.d_model)
        self.embed_dropout = nn.Dropout(config.embed_dropout)
        self.head = Head(dims.d_model, dims.vocab_size, tied=spec.tie_embeddings, bias=config.head_bias)
        self.head.scale, self.head.softcap = config.logit_scale, config.logit_softcap

    def fans(self) -> Mapping[str, Fans]:
        return {} if self.head.weight is None else {"head.weight": Fans(inputs=(1,), has_multiplier=True)}

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
        states: States | None = None,
        no_past: bool = False,
        last_only: bool = False,
        capture: Iterable[str] = (),
        auxiliary: AuxiliaryOutputs | None = None,
    ) -> tuple[Tensor | None, Tensor | None]:
        """Return (logits, None), or (None, loss) if there are targets.

        Logits are (B, T, V). The loss is the mean cross-entropy in nats; in training mode, auxiliary losses are added.

        Args:
            tokens: Token ids (B, T).
            targets: Token ids (B, T): the next token of each position, as in `model(tokens[:, :-1], tokens[:, 1:])`.
                The model does not shift them. A target of -100 is ignored.
            positions: Positions (B|1, T), -1 for padding. Default: 0..T-1, if no states with a past are given.
            documents: Document ids (B, T) of packed sequences. Attention stays inside a document.
            states: States from `new_states`. The tokens attend to them and are appended to them.
            no_past: Guarantee that the states are still empty.
            last_only: Return the logits of the last position only, (B, 1, V).
            capture: Names of tensors to capture: "attention" of sublayers, "residual" and "hidden" of the stack.
            auxiliary: Receives the losses, metrics and captures of the forward pass.
        """
        has_past = states is not None and not no_past
        self._check(tokens, positions, documents, has_past=has_past)
        trivially_causal = positions is None and documents is None and not has_past
        if positions is None:
            positions = torch.arange(tokens.shape[1], device=tokens.device)[None]  # (1, T)
        x = self.embed_dropout(self.embed_positions(self.embed_tokens(tokens), positions))  # (B, T, C)
        context = ForwardContext(
            positions,
            documents=documents,
            trivially_causal=trivially_causal,
            no_past=not has_past,
            capture=frozenset(capture),
        )
        auxiliary = AuxiliaryOutputs() if auxiliary is None else auxiliary
        x = self.run(x, context, states, auxiliary)

        if targets is None:
            return self.head(x[:, -1:] if last_only else x, self.embed.weight), None
        loss = self.head.loss(x, self.embed.weight, targets, auxiliary)
        if self.training:
            loss = sum(auxiliary.losses.values(), start=loss)
        return None, loss

    def embed_tokens(self, tokens: Tensor) -> Tensor:
        """Return the scaled embeddings (B, T, C) of tokens (B, T)."""
        x: Tensor = self.embed(tokens)
        return x if self.config.embed_scale == 1 else x * self.config.embed_scale

    def readout(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(self.exit(x), self.embed.weight)
        return logits

    def _check(self, tokens: Tensor, positions: Tensor | None, documents: Tensor | None, *, has_past: bool) -> None:
        """Raise ValueError for arguments that would give wrong results silently or fail an assertion on the device."""
        if positions is None and has_past:
            raise ValueError("positions are required with states that have a past")
        if positions is None and self.max_length is not None and tokens.shape[1] > self.max_length:
            raise ValueError(
                f"expected at most {self.max_length} tokens (the model's max_length), got {tokens.shape[1]}"
            )
        if documents is not None and has_past:
            raise ValueError("documents cannot be used with a past: the cache does not store document ids")
        for attention in self.spec.per_layer("attention") if documents is not None else ():
            if "documents" not in attention.component.supports:
                raise ValueError(f"attention {attention.type!r} does not support documents")
