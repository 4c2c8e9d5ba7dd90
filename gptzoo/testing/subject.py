"""What is checked: a component with options, and a small model to put it into."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from pydantic import ValidationError
from torch import Tensor, nn

from gptzoo import registry
from gptzoo.component import Component, Config
from gptzoo.components.context import ForwardContext
from gptzoo.errors import InputError, Problem, SpecError
from gptzoo.model.architecture import Architecture
from gptzoo.model.build import build
from gptzoo.spec.files import spec_error
from gptzoo.spec.model import ModelSpec
from gptzoo.testing.verdict import Skipped

MODEL_KINDS = ("activation", "architecture", "attention", "ffn", "norm", "norm_layer", "positional")
HOST = {"vocab_size": 13, "context_length": 16, "d_model": 32, "n_layers": 2, "n_heads": 4}


class Subject:
    """A component and its options, validated. Raises SpecError when the options are wrong."""

    def __init__(self, component: type[Component], options: Mapping[str, Any]):
        self.component, self.kind = component, component.kind
        self.label = f"{component.kind}:{component.name}"
        self.options = dict(options)
        self.config = self.configure()

    def configure(self, **changes: Any) -> Config:
        """The config with some options changed. Raises SpecError."""
        try:
            return self.component.Config.model_validate({"type": self.component.name, **self.options, **changes})
        except ValidationError as error:
            told = spec_error(error, {(): self.label})
        raise SpecError(
            Problem(p.source, p.path, f"{p.reason}; give it with --set {p.path[2:]}=… or in `options`")
            if p.reason == "is required"
            else p
            for p in told.problems
        )

    def resolved(self, config: Config) -> Any:
        """What the config amounts to, to be compared. Raises SpecError if it breaks a rule of its component."""
        return config


class PartSubject(Subject):
    """A part of a model. The other parts of its host are built in."""

    def spec(self, config: Config | None = None, **changes: Any) -> ModelSpec:
        """The host with the part put in its place, and with fields of the host changed. Raises SpecError."""
        try:
            return ModelSpec.model_validate({**HOST, **self._place(config or self.config), **changes})
        except ValidationError as error:
            raise spec_error(error, {(): self.label}) from None

    def _place(self, config: Config) -> dict[str, Any]:
        if self.kind == "norm_layer":  # as wide as the model, and as a head
            return {"norm": {"type": "pre_ln", "layer": config}, "attention": {"type": "sdpa", "qk_norm": config}}
        if self.kind == "attention":
            honours = self.component.supports  # type: ignore[attr-defined]
            return {"attention": config, "positional": "rope" if "rotate" in supports else "sinusoidal"}
        if self.kind == "positional":
            return {"positional": config, "attention": self._attention_for(self.component.requires)}  # type: ignore[attr-defined]
        return {self.kind: config, "positional": "rope"}

    def _attention_for(self, needs: frozenset[str]) -> str:
        known = registry.current().of_kind("attention")
        for name in ("sdpa", *known):
            if known[name].supports >= needs:  # type: ignore[attr-defined]
                return name
        raise InputError(f"{self.label}: no attention is registered that honours {' and '.join(sorted(needs))}")

    def model(
        self,
        config: Config | None = None,
        *,
        seed: int = 1,
        noise: int = 0,
        dtype: torch.dtype = torch.float32,
        **changes: Any,
    ) -> Any:
        """The host built, with weights so large that every part shows; in eval mode."""
        model = build(self.spec(config, **changes), seed=seed).eval()
        return complete(loud(model, noise)).to(dtype)

    def with_dropout(self) -> dict[str, Any]:
        """The change to the host that drops something in training; none where the component cannot do with it."""
        try:
            self.spec(dropout=0.3)
        except SpecError:
            return {}
        return {"dropout": 0.3}

    def resolved(self, config: Config) -> Any:
        return self.spec(config)

    def tokens(self, batch_size: int, length: int, seed: int = 3) -> Tensor:
        """(B, T) token ids."""
        generator = torch.Generator().manual_seed(seed)
        return torch.randint(HOST["vocab_size"], (batch_size, length), generator=generator)

    def parts(self, model: nn.Module) -> Iterator[tuple[str, Any]]:
        """The component's own modules in a model, by path."""
        for path, module in model.named_modules():
            if type(module) is self.component:
                yield path, module


def loud(model: Architecture, seed: int = 0) -> Architecture:
    """Add noise to every parameter: initial ones are so small that attention is all but uniform, gates may be shut.

    It is added, not put in their place, because some have a range that they must stay in.
    """
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            parameter.add_(noise * (parameter.shape[-1] ** -0.5 if parameter.ndim > 1 else 0.3))
    return model


def complete(model: Architecture) -> Architecture:
    """Make a model that requires more than tokens, as an encoder-decoder does, take its own example of the rest."""
    if model.required_inputs:
        model.register_forward_pre_hook(_add_what_is_required, with_kwargs=True)
    return model


def _add_what_is_required(model: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    if kwargs.get("states") is not None:
        raise Skipped(
            f"it requires {' and '.join(sorted(model.required_inputs))}, which the kit does not feed in chunks"
        )
    example = model.example_inputs(*args[0].shape)
    return args, {**{name: example[name] for name in model.required_inputs}, **kwargs}


def context_of(model: Any, positions: Tensor, **known: Any) -> ForwardContext:
    """What the decoder tells its first block in a forward pass."""
    positional = model.positionals[model.positional_of_layer[0]]
    bias = positional.bias(positions, positions)
    return ForwardContext(positions, positional, tables=positional.prepare(positions), self_bias=bias, **known)
