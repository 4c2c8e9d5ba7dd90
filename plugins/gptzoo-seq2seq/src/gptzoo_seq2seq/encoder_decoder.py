"""The architecture: a stack that reads the source, and a decoder whose blocks read what it made of it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Annotated, Any

import torch
from pydantic import PositiveInt
from torch import Tensor

import gptzoo

States = list[dict[str, dict[str, Tensor]]]

_PER_LAYER = ("attention", "positional", "ffn")
_ENCODER_NEEDS = {"noncausal": "lets tokens see the future", "padding": "pads short sources"}


class Encoder(gptzoo.Stack):
    """Blocks in which every token of the source sees all others."""


class EncoderDecoder(gptzoo.Decoder):
    """An encoder reads the source, every token seeing all others; a causal decoder writes the target and reads it.

    One token embedding serves both. In sampling, a prompt is the source and, last, the token that a target starts with.
    """

    name = "encoder_decoder"
    paper = "Vaswani et al. 2017, Attention Is All You Need, arXiv:1706.03762; Raffel et al. 2020, T5, arXiv:1910.10683"
    accepted_inputs = frozenset({"source", "positions"})
    required_inputs = frozenset({"source"})

    class Config(gptzoo.Decoder.Config):
        n_encoder_layers: PositiveInt | None = gptzoo.inherited("n_layers", "Blocks of the encoder.")
        encoder_attention: Annotated[Any, gptzoo.PerLayer("attention")] | None = gptzoo.inherited(
            "attention", "Of the encoder; it must honour `noncausal` and `padding`."
        )
        encoder_positional: Annotated[Any, gptzoo.PerLayer("positional")] | None = gptzoo.inherited(
            "positional", "Of the encoder; where it learns, it learns other values than the decoder's."
        )
        encoder_ffn: Annotated[Any, gptzoo.PerLayer("ffn")] | None = gptzoo.inherited("ffn", "Of the encoder.")
        cross: Annotated[gptzoo.Config, gptzoo.Reference("cross_attention")] = gptzoo.by_default("multi_head")
        """What stands between attention and ffn in each block of the decoder and reads the encoder's output."""

        def problems(self, dims: gptzoo.Dims) -> Iterator[tuple[str, str]]:
            for kind in _PER_LAYER:
                cycle = getattr(self, f"encoder_{kind}")
                if isinstance(cycle, tuple) and len(cycle) > self.n_encoder_layers:
                    yield f"encoder_{kind}", f"a list of {len(cycle)} for {self.n_encoder_layers} layers of the encoder"
            for attention in _distinct(self._encoder_layers("attention")):
                for need in sorted(_ENCODER_NEEDS.keys() - attention.component.supports):
                    yield (
                        "encoder_attention",
                        f"{self.type!r} {_ENCODER_NEEDS[need]}, which attention {attention.type!r} does not honour",
                    )
            pairs = zip(self._encoder_layers("positional"), self._encoder_layers("attention"), strict=True)
            for positional, attention in _distinct(pairs):
                if missing := positional.component.requires - attention.component.supports:
                    needs = " and ".join(sorted(missing))
                    yield (
                        "encoder_positional",
                        f"{positional.type!r} needs {needs}, which attention {attention.type!r} does not honour",
                    )

        def _encoder_layers(self, kind: str) -> list[gptzoo.Config]:
            value = getattr(self, f"encoder_{kind}")
            cycle = value if isinstance(value, tuple) else (value,)
            return [cycle[layer % len(cycle)] for layer in range(self.n_encoder_layers)]

    def __init__(self, config: Any, spec: gptzoo.ModelSpec):
        super().__init__(config, spec)
        of_encoder = {kind: getattr(config, f"encoder_{kind}") for kind in _PER_LAYER}
        changed = {**dict(spec), "n_layers": config.n_encoder_layers, **of_encoder}
        self.encoder = Encoder(config, gptzoo.ModelSpec.model_validate(changed))

    def sublayers(self, dims: gptzoo.Dims) -> dict[str, gptzoo.Sublayer]:
        own = super().sublayers(dims)
        return {"attention": own["attention"], "cross": self.config.cross.build(dims), "ffn": own["ffn"]}

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
        """Tokens (B, T) of the target -> logits (B, T, V), None; with targets -> None, the mean cross-entropy in nats.

        source: (B, M) token ids, -1 for padding, wherever it is. With states it is given once, in the first call.
        The other arguments are those of `gptzoo.Decoder`; what the encoder emits is observed under `encoder.blocks`.
        """
        going_on = states is not None and not no_past
        self._refuse(tokens, source, positions, states, going_on)
        seen = gptzoo.AuxiliaryOutputs() if auxiliary is None else auxiliary
        capture = frozenset(capture)
        memory, valid = (None, None) if source is None else self.encode(source, capture=capture, auxiliary=seen)

        trivially_causal = positions is None
        if positions is None:
            positions = torch.arange(tokens.shape[1], device=tokens.device)[None]  # (1, T)
        x = self.embed_dropout(self.embed_positions(self.embed(tokens), positions))  # (B, T, C)
        context = gptzoo.ForwardContext(
            positions,
            memory=memory,
            memory_valid=valid,
            trivially_causal=trivially_causal,
            no_past=not going_on,
            capture=capture,
        )
        x = self.run(x, context, states, seen)

        if targets is None:
            return self.head(x[:, -1:] if last_only else x, self.embed.weight), None
        loss = self.head.loss(x, self.embed.weight, targets, seen)
        if self.training:
            loss = sum(seen.losses.values(), start=loss)
        return None, loss

    def encode(
        self, source: Tensor, *, capture: Iterable[str] = (), auxiliary: gptzoo.AuxiliaryOutputs | None = None
    ) -> tuple[Tensor, Tensor]:
        """Source (B, M), -1 for padding -> what the decoder reads (B, M, C), and which of it is no padding (B, M)."""
        valid = source >= 0
        positions = torch.where(valid, valid.cumsum(1) - 1, -1)
        x = self.embed_dropout(self.encoder.embed_positions(self.embed(source.clamp(min=0)), positions))
        context = gptzoo.ForwardContext(positions, causal=False, capture=frozenset(capture))
        seen = gptzoo.AuxiliaryOutputs()
        memory = self.encoder.run(x, context, auxiliary=seen)
        if auxiliary is not None:
            auxiliary.add("encoder.", gptzoo.SublayerOutput(memory, seen.losses, seen.metrics, seen.captures))
        return memory, valid

    def _refuse(
        self,
        tokens: Tensor,
        source: Tensor | None,
        positions: Tensor | None,
        states: States | None,
        going_on: bool,
    ) -> None:
        """Refuse, by ValueError, what would be wrong in silence or end in an assertion on the device."""
        if source is None and not going_on:
            raise ValueError("a source is needed, unless states that have read one are gone on from")
        if positions is None and going_on:
            raise ValueError("positions are needed to go on from cached states")
        reach = super().max_length
        if positions is None and reach is not None and tokens.shape[1] > reach:
            raise ValueError(f"{tokens.shape[1]} tokens are more than positions reach, which is {reach}")
        reach = self.encoder.max_length
        if source is not None and reach is not None and source.shape[1] > reach:
            raise ValueError(
                f"a source of {source.shape[1]} tokens is more than the encoder's positions reach, which is {reach}"
            )

    # ------------------------------------------------------------------ writing token by token

    def new_states(
        self,
        batch_size: int,
        max_length: int,
        *,
        source_length: int | None = None,
        device: Any = None,
        dtype: torch.dtype | None = None,
    ) -> States:
        """Empty states for targets of up to `max_length` tokens and sources of `source_length`, or of as many."""
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
        """The longest sequence that can be placed on either side, or None."""
        limits = (super().max_length, self.encoder.max_length)
        return min((limit for limit in limits if limit is not None), default=None)

    def remaining_length(self, prompt_length: int) -> int | None:
        """None of the prompt but its last token takes up the target's positions; the rest must fit the encoder's."""
        if self.encoder.max_length is not None and prompt_length - 1 > self.encoder.max_length:
            return 0
        reach = super().max_length
        return None if reach is None else reach - 1

    def new_slot_states(self, batch_size: int, max_length: int) -> States:
        return self.new_states(batch_size, max_length, source_length=max_length)

    def prefill(
        self, prompts: Sequence[Sequence[int]], max_new_tokens: int, *, states: States | None = None, **how: Any
    ) -> gptzoo.PrefillOutput:
        """Read prompts, each a source and, last, the token that its target starts with. Raises InputError."""
        if min(map(len, prompts)) < 2:
            raise gptzoo.InputError(
                f"a prompt of {self.config.type!r} is a source and, last, the token that the target starts with: "
                "give two tokens or more"
            )
        device = self.embed.weight.device
        longest = max(map(len, prompts)) - 1
        source = torch.tensor([[*row[:-1], *[-1] * (longest + 1 - len(row))] for row in prompts], device=device)
        tokens = torch.tensor([[row[-1]] for row in prompts], device=device)
        if states is None:
            states = self.new_states(len(prompts), 1 + max_new_tokens, source_length=longest)
        logits, _ = self(tokens, source=source, states=states, no_past=True, last_only=True, **how)
        return gptzoo.PrefillOutput(logits[:, -1], states, torch.ones(1, 1, dtype=torch.int64, device=device))

    def example_inputs(self, batch_size: int, length: int, *, device: Any = None) -> dict[str, Tensor]:
        """A source as long as the target."""
        batch = super().example_inputs(batch_size, length, device=device)
        return {**batch, "source": torch.zeros_like(batch["tokens"])}


def _distinct(values: Iterable[Any]) -> list[Any]:
    found: list[Any] = []
    for value in values:
        if value not in found:
            found.append(value)
    return found
