"""The encoder-decoder architecture: an encoder for the source, and a decoder whose blocks attend to its output."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Annotated, Any, TypeVar

import torch
from pydantic import PositiveInt
from torch import Tensor

import gptzoo
from gptzoo_seq2seq.cross import CrossAttention

T = TypeVar("T")
States = list[dict[str, gptzoo.State]]  # by layer, then by sublayer

_PER_LAYER = ("attention", "positional", "ffn")
_ENCODER_REQUIRES = {"noncausal": "attends to later tokens", "padding": "pads short sources"}


class Encoder(gptzoo.Stack):
    """Blocks in which every source token attends to all source tokens."""


class EncoderDecoder(gptzoo.Decoder):
    """An encoder-decoder transformer: a bidirectional encoder of the source, and a causal decoder with cross-attention.

    Both share the token embedding. In sampling, a prompt is the source followed by the first token of the target.
    """

    name = "encoder_decoder"
    paper = "Vaswani et al. 2017, Attention Is All You Need, arXiv:1706.03762; Raffel et al. 2020, T5, arXiv:1910.10683"
    accepted_inputs = frozenset({"source", "positions"})
    required_inputs = frozenset({"source"})

    class Config(gptzoo.Decoder.Config):
        n_encoder_layers: gptzoo.Inherited[PositiveInt] = gptzoo.inherited("n_layers")
        """Number of blocks of the encoder. Default: the model's `n_layers`."""
        encoder_attention: gptzoo.Inherited[Annotated[Any, gptzoo.PerLayer("attention")]] = gptzoo.inherited(
            "attention"
        )
        """Attention of the encoder, or a list that is cycled over its layers. It must support `noncausal` and
        `padding`. Default: the model's `attention`."""
        encoder_positional: gptzoo.Inherited[Annotated[Any, gptzoo.PerLayer("positional")]] = gptzoo.inherited(
            "positional"
        )
        """Position encoding of the encoder, or a list that is cycled over its layers. Its parameters are separate from
        the decoder's. Default: the model's `positional`."""
        encoder_ffn: gptzoo.Inherited[Annotated[Any, gptzoo.PerLayer("ffn")]] = gptzoo.inherited("ffn")
        """Feed-forward network of the encoder, or a list that is cycled over its layers. Default: the model's `ffn`."""
        cross: Annotated[CrossAttention.Config, gptzoo.Reference("cross_attention")] = gptzoo.by_default("multi_head")
        """Cross-attention from the decoder to the encoder's output, between self-attention and feed-forward network in
        each block."""

        def at_width(self, base: gptzoo.Dims, dims: gptzoo.Dims) -> EncoderDecoder.Config:
            if base.d_head != dims.d_head:
                raise ValueError(
                    "does not scale the scores of cross-attention with the width of a head. Keep the width of heads, "
                    "and scale their number"
                )
            config = super().at_width(base, dims)
            assert isinstance(config, EncoderDecoder.Config)
            return config

        def problems(self, dims: gptzoo.Dims) -> Iterator[tuple[str, str]]:
            for kind in _PER_LAYER:
                cycle = getattr(self, f"encoder_{kind}")
                if isinstance(cycle, tuple) and len(cycle) > self.n_encoder_layers:
                    yield (
                        f"encoder_{kind}",
                        f"should have at most one entry per encoder layer, {self.n_encoder_layers}, not {len(cycle)}",
                    )
            for attention in _distinct(self._encoder_layers("attention")):
                for feature in sorted(_ENCODER_REQUIRES.keys() - attention.component.supports):
                    yield (
                        "encoder_attention",
                        f"{attention.type!r} does not support {feature!r}: the encoder {_ENCODER_REQUIRES[feature]}",
                    )
            pairs = zip(self._encoder_layers("positional"), self._encoder_layers("attention"), strict=True)
            for positional, attention in _distinct(pairs):
                if missing := positional.component.requires - attention.component.supports:
                    features = " and ".join(repr(feature) for feature in sorted(missing))
                    yield (
                        "encoder_positional",
                        f"{positional.type!r} requires {features}, which attention {attention.type!r} does not support",
                    )

        def _encoder_layers(self, kind: str) -> list[Any]:
            """Return the config of this kind for each layer of the encoder."""
            value = getattr(self, f"encoder_{kind}")
            cycle = value if isinstance(value, tuple) else (value,)
            return [cycle[layer % len(cycle)] for layer in range(self.n_encoder_layers)]

    config: Config

    def __init__(self, config: Config, spec: gptzoo.ModelSpec):
        super().__init__(config, spec)
        encoder_parts = {kind: getattr(config, f"encoder_{kind}") for kind in _PER_LAYER}
        encoder_spec = {**dict(spec), "n_layers": config.n_encoder_layers, **encoder_parts}
        self.encoder = Encoder(config, gptzoo.ModelSpec.model_validate(encoder_spec))

    def sublayers(self, dims: gptzoo.Dims) -> dict[str, gptzoo.Sublayer]:
        sublayers = super().sublayers(dims)
        return {
            "attention": sublayers["attention"],
            "cross": self.config.cross.build(dims),
            "ffn": sublayers["ffn"],
        }

    def forward(  # type: ignore[override]
        self,
        tokens: Tensor,
        targets: Tensor | None = None,
        *,
        source: Tensor | None = None,
        positions: Tensor | None = None,
        states: States | None = None,
        no_past: bool = False,
        last_only: bool = False,
        capture: Iterable[str] = (),
        auxiliary: gptzoo.AuxiliaryOutputs | None = None,
    ) -> tuple[Tensor | None, Tensor | None]:
        """Return (logits, None), or (None, loss) if there are targets.

        `source` holds token ids (B, M), with -1 for padding at any place. With states it is passed once, in the first
        call. `tokens` (B, T) belong to the target, and `targets` are their next tokens. All other arguments are those
        of `gptzoo.Decoder`. Auxiliary outputs of the encoder are added under `encoder.blocks`.
        """
        has_past = states is not None and not no_past
        self._check_arguments(tokens, source, positions, has_past)
        auxiliary = gptzoo.AuxiliaryOutputs() if auxiliary is None else auxiliary
        capture = frozenset(capture)
        memory, valid = (None, None) if source is None else self.encode(source, capture=capture, auxiliary=auxiliary)

        trivially_causal = positions is None
        if positions is None:
            positions = torch.arange(tokens.shape[1], device=tokens.device)[None]  # (1, T)
        x = self.embed_dropout(self.embed_positions(self.embed_tokens(tokens), positions))  # (B, T, C)
        context = gptzoo.ForwardContext(
            positions,
            memory=memory,
            memory_valid=valid,
            trivially_causal=trivially_causal,
            no_past=not has_past,
            capture=capture,
        )
        x = self.run(x, context, states, auxiliary)

        if targets is None:
            return self.head(x[:, -1:] if last_only else x, self.embed.weight), None
        loss = self.head.loss(x, self.embed.weight, targets, auxiliary)
        if self.training:
            loss = sum(auxiliary.losses.values(), start=loss)
        return None, loss

    def encode(
        self, source: Tensor, *, capture: Iterable[str] = (), auxiliary: gptzoo.AuxiliaryOutputs | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return the encoder output (B, M, C) for a source (B, M), and the mask (B, M) that is False for padding."""
        valid = source >= 0
        positions = torch.where(valid, valid.cumsum(1) - 1, -1)
        x = self.embed_dropout(self.encoder.embed_positions(self.embed_tokens(source.clamp(min=0)), positions))
        context = gptzoo.ForwardContext(positions, causal=False, capture=frozenset(capture))
        encoder_auxiliary = gptzoo.AuxiliaryOutputs()
        memory = self.encoder.run(x, context, auxiliary=encoder_auxiliary)
        if auxiliary is not None:
            auxiliary.add("encoder.", encoder_auxiliary)
        return memory, valid

    def _check_arguments(self, tokens: Tensor, source: Tensor | None, positions: Tensor | None, has_past: bool) -> None:
        """Raise ValueError for arguments that would give wrong results silently or fail an assertion on the device."""
        if source is None and not has_past:
            raise ValueError("a source is required without states that have a past")
        if positions is None and has_past:
            raise ValueError("positions are required with states that have a past")
        max_target = super().max_length
        if positions is None and max_target is not None and tokens.shape[1] > max_target:
            raise ValueError(f"expected at most {max_target} target tokens, got {tokens.shape[1]}")
        max_source = self.encoder.max_length
        if source is not None and max_source is not None and source.shape[1] > max_source:
            raise ValueError(f"expected at most {max_source} source tokens, got {source.shape[1]}")

    # ------------------------------------------------------------------ prefill and decoding

    def new_states(
        self,
        batch_size: int,
        max_length: int,
        *,
        source_length: int | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> States:
        """Allocate empty states for targets of up to `max_length` tokens and sources of up to `source_length` tokens.

        `source_length` defaults to `max_length`.
        """
        states = super().new_states(batch_size, max_length, device=device, dtype=dtype)
        if source_length is not None:
            weight = self.embed.weight
            for block, state in zip(self.blocks, states, strict=True):
                state["cross"] = block.cross.new_state(
                    batch_size, source_length, device=device or weight.device, dtype=dtype or weight.dtype
                )
        return states

    @property
    def max_length(self) -> int | None:
        """The longest sequence for which positions exist in both encoder and decoder, or None for no limit."""
        limits = (super().max_length, self.encoder.max_length)
        return min((limit for limit in limits if limit is not None), default=None)

    def remaining_length(self, prompt_length: int) -> int | None:
        """Return how many target tokens can follow a prompt, or None for no limit.

        Only the last token of the prompt has a position in the decoder. The tokens before it are the source, which must
        fit into the encoder.
        """
        if self.encoder.max_length is not None and prompt_length - 1 > self.encoder.max_length:
            return 0
        max_target = super().max_length
        return None if max_target is None else max_target - 1

    def remaining_context(self, prompt_length: int) -> int:
        """Return how many target tokens can follow a prompt within `context_length`, or the excess of its source."""
        n_source, context_length = prompt_length - 1, self.spec.context_length
        return context_length - (n_source if n_source > context_length else 1)

    def new_slot_states(self, batch_size: int, max_length: int) -> States:
        return self.new_states(batch_size, max_length, source_length=max_length)

    def prefill(
        self,
        prompts: Sequence[Sequence[int]],
        max_new_tokens: int,
        *,
        states: States | None = None,
        **forward_kwargs: object,
    ) -> gptzoo.PrefillOutput:
        """Encode the source of each prompt and decode its last token, which is the first token of the target.

        Raises InputError for a prompt of fewer than two tokens.
        """
        if min(map(len, prompts)) < 2:
            raise gptzoo.InputError(
                f"a prompt for {self.config.type!r} is a source followed by the first token of the target, so it needs "
                "at least two tokens"
            )
        device = self.embed.weight.device
        longest = max(map(len, prompts)) - 1
        source = torch.tensor(
            [[*prompt[:-1], *[-1] * (longest + 1 - len(prompt))] for prompt in prompts], device=device
        )
        tokens = torch.tensor([[prompt[-1]] for prompt in prompts], device=device)
        if states is None:
            states = self.new_states(len(prompts), 1 + max_new_tokens, source_length=longest)
        logits, _ = self(tokens, source=source, states=states, no_past=True, last_only=True, **forward_kwargs)
        return gptzoo.PrefillOutput(logits[:, -1], states, torch.ones(1, 1, dtype=torch.int64, device=device))

    def example_inputs(
        self, batch_size: int, length: int, *, device: torch.device | str | None = None
    ) -> dict[str, Tensor]:
        """Return arguments of `forward` with a source as long as the target."""
        batch = super().example_inputs(batch_size, length, device=device)
        return {**batch, "source": torch.zeros_like(batch["tokens"])}


def _distinct(values: Iterable[T]) -> list[T]:
    """Return the values without duplicates, in order."""
    distinct: list[T] = []
    for value in values:
        if value not in distinct:
            distinct.append(value)
    return distinct
