"""The component under test: a component class, its options, and the tiny model that it is built into."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, cast

import torch
from pydantic import ValidationError
from torch import Tensor, nn

from gptzoo import registry
from gptzoo.component import Component, Config
from gptzoo.components.multi_head_attention import Attention
from gptzoo.components.part import Part
from gptzoo.errors import InputError, Problem, SpecError
from gptzoo.model.build import build
from gptzoo.model.stack import Stack
from gptzoo.spec.files import spec_error
from gptzoo.spec.formats.origin import Origin
from gptzoo.spec.model import ModelSpec
from gptzoo.testing.at_size.effort import QUICK, Effort
from gptzoo.testing.tiny_model import TINY_MODEL, add_weight_noise, supply_required_inputs

MODEL_KINDS = ("activation", "architecture", "attention", "ffn", "norm", "norm_layer", "positional")


class ComponentUnderTest:
    """A component class with validated options. Raises SpecError if the options are wrong.

    Two of the same class with the same options are equal, so that costs which were computed for one hold for the other.
    """

    effort: Effort = QUICK
    """How many cases beyond toy sizes a property tries."""

    def __init__(self, component: type[Component], options: Mapping[str, object]):
        self.component, self.kind = component, component.kind
        self.label = f"{component.kind}:{component.name}"
        self.options = dict(options)
        self.config = self.configure()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ComponentUnderTest) and self._key() == other._key()

    def __hash__(self) -> int:
        return hash(self._key())

    def _key(self) -> tuple[object, ...]:
        return type(self), self.component, repr(sorted(self.options.items()))

    def configure(self, **changes: object) -> Config:
        """Return the config with some options changed. Raises SpecError if a value is invalid."""
        try:
            return self.component.Config.model_validate({"type": self.component.name, **self.options, **changes})
        except ValidationError as error:
            problems = spec_error(error, {(): Origin(self.label)}).problems
        raise SpecError(
            Problem(p.source, p.path, f"{p.reason}; give it with --set {p.path[2:]}=… or in `options`")
            if p.reason == "is required"
            else p
            for p in problems
        )

    def resolve(self, config: Config) -> object:
        """Return a value that is equal for two configs with the same effect, with inherited options filled in.

        Raises SpecError if the config breaks a rule of its component.
        """
        return config


class ModelPartUnderTest(ComponentUnderTest):
    """A component that is part of a model. The other parts of the tiny model are built-in components."""

    def spec(self, config: Config | None = None, **changes: object) -> ModelSpec:
        """Return the spec of the tiny model with the component in it. Raises SpecError if it is invalid.

        config: replaces the component's own config.
        changes: fields of the model spec to change.
        """
        try:
            return ModelSpec.model_validate({**TINY_MODEL, **self._model_fields(config or self.config), **changes})
        except ValidationError as error:
            raise spec_error(error, {(): Origin(self.label)}) from None

    def _model_fields(self, config: Config) -> dict[str, Any]:
        """Return the fields of the model spec that select the component."""
        if self.kind == "norm_layer":  # once as wide as the model, once as wide as a head
            return {"norm": {"type": "pre_ln", "layer": config}, "attention": {"type": "sdpa", "qk_norm": config}}
        if self.kind == "attention":
            return {"attention": config, "positional": "rope" if self.supports("rotate") else "sinusoidal"}
        if self.kind == "positional":
            return {"positional": config, "attention": self._supporting_attention()}
        return {self.kind: config, "positional": "rope"}

    def _supporting_attention(self) -> str:
        """Return the name of an attention that supports what this positional requires, `sdpa` if possible."""
        assert issubclass(self.component, Part)
        required = self.component.requires
        registered = registry.current().of_kind("attention")
        for name in ("sdpa", *registered):
            attention = registered[name]
            if issubclass(attention, Attention) and attention.supports >= required:
                return name
        raise InputError(f"{self.label}: no registered attention supports {' and '.join(sorted(required))}")

    def supports(self, feature: str) -> bool:
        """Return True if the component lists a feature in `supports`."""
        return feature in getattr(self.component, "supports", ())

    def model(
        self,
        config: Config | None = None,
        *,
        seed: int = 1,
        noise_seed: int = 0,
        dtype: torch.dtype = torch.float32,
        gain: float = 1.0,
        supply_inputs: bool = True,
        **changes: object,
    ) -> Stack:
        """Build the tiny model in eval mode, with weights large enough for every part to affect the logits.

        The return type is right for nearly every architecture. An architecture without blocks lacks some attributes.
        """
        model = build(self.spec(config, **changes), seed=seed).eval()
        add_weight_noise(model, noise_seed, gain)
        if supply_inputs:
            supply_required_inputs(model)
        return cast(Stack, model.to(dtype))

    def dropout_fields(self) -> dict[str, Any]:
        """Return the model fields that turn dropout on, or none if the component does not allow dropout."""
        try:
            self.spec(dropout=0.3)
        except SpecError:
            return {}
        return {"dropout": 0.3}

    def resolve(self, config: Config) -> object:
        return self.spec(config)

    def tokens(self, batch_size: int, length: int, seed: int = 3) -> Tensor:
        """Return random token ids (B, T)."""
        generator = torch.Generator().manual_seed(seed)
        return torch.randint(TINY_MODEL["vocab_size"], (batch_size, length), generator=generator)

    def instances(self, model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
        """Yield the path and the module of every instance of the component in a model."""
        for path, module in model.named_modules():
            if type(module) is self.component and isinstance(module, nn.Module):
                yield path, module
