"""A trial: a case of a component, and the model, tokens and positions that it stands for."""

from __future__ import annotations

from functools import cached_property
from typing import Any, cast

import torch
from torch import Tensor

from gptzoo import registry
from gptzoo.component import Config
from gptzoo.model.build import build_on_meta
from gptzoo.model.stack import Stack
from gptzoo.testing.at_size.case import MODEL_SHAPES, Case, ModelShape
from gptzoo.testing.at_size.score_bias import RelativeBias
from gptzoo.testing.component_under_test import ModelPartUnderTest
from gptzoo.testing.partners import has_required_options, model_fields


class Trial:
    """A case of a component under test."""

    def __init__(self, subject: ModelPartUnderTest, case: Case):
        self.subject, self.case = subject, case
        self.length, self.batch_size, self.parts = case.length, case.batch_size, case.parts

    @cached_property
    def shape(self) -> ModelShape:
        return MODEL_SHAPES[self.case.shape]

    @cached_property
    def config(self) -> Config:
        """The config of the component. Raises SpecError if a value is refused."""
        return self.subject.configure(**self.case.options)

    @cached_property
    def model_fields(self) -> dict[str, Any]:
        """The fields of the model's spec that the case changes."""
        fields: dict[str, Any] = {**self.shape._asdict(), "context_length": self.case.resolved_context_length}
        if self.case.partner:
            kind, _, name = self.case.partner.partition(":")
            if (kind, name) == ("positional", RelativeBias.name):
                return fields | {"positional": RelativeBias.Config()}
            fields |= model_fields(self.subject, kind, name, self.config) or {}
        return fields

    def validate(self) -> None:
        """Raise SpecError unless the spec of the model is valid."""
        self.subject.spec(self.config, **self.model_fields)

    def exceeds_max_length(self) -> bool:
        """Return True if the rows are longer than the positions of the model allow."""
        if self.case.resolved_context_length >= self.length:
            return False
        model = cast(Stack, build_on_meta(self.subject.spec(self.config, **self.model_fields)))
        max_length = model.max_length
        return max_length is not None and max_length < self.length

    def has_variant(self, bit: int) -> bool:
        return bool(self.case.variant & bit)

    def model(
        self, dtype: torch.dtype = torch.float64, *, config: Config | None = None, seed: int = 0, **changes: object
    ) -> Stack:
        """Build the model in eval mode.

        config: replaces the config of the component.
        seed: of the noise on the weights.
        changes: fields of the spec, or arguments of the component under test.
        """
        fields: dict[str, Any] = {**self.model_fields, **changes}
        if config is not None and self.subject.kind in fields:
            fields[self.subject.kind] = config
        return self.subject.model(config or self.config, dtype=dtype, gain=self.case.gain, noise_seed=seed, **fields)

    def supports(self, feature: str) -> bool:
        """Return True if every attention of the model lists a feature in `supports`."""
        attentions = self.subject.spec(self.config, **self.model_fields).per_layer("attention")
        return all(feature in attention.component.supports for attention in attentions)

    def tokens(self, batch_size: int | None = None, length: int | None = None, seed: int = 3) -> Tensor:
        """Return random token ids (B, T), by default of the sizes of the case."""
        generator = torch.Generator().manual_seed(seed)
        size = (batch_size or self.batch_size, length or self.length)
        return torch.randint(self.shape.vocab_size, size, generator=generator)

    def other(self, tokens: Tensor) -> Tensor:
        """Return another token id for each token id."""
        return (tokens + 1 + self.shape.vocab_size // 2) % self.shape.vocab_size


def partners_of(subject: ModelPartUnderTest) -> list[str]:
    """Return components of other kinds that affect what the component computes, as "kind:type"."""
    kind = {"attention": "positional", "positional": "attention", "activation": "ffn", "norm_layer": "norm"}.get(
        subject.kind
    )
    if kind is None:
        return []
    known = registry.current().of_kind(kind)
    names = [name for name, part in known.items() if not has_required_options(part)]
    if kind == "positional" and subject.supports("bias"):
        names.insert(0, RelativeBias.name)
    return [f"{kind}:{name}" for name in names]
