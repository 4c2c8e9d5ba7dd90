"""Helpers for all tests: small specs, specs that cover the registry, and models whose every component has an effect."""

from __future__ import annotations

import contextlib
import itertools
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import gptzoo
from gptzoo import registry
from gptzoo.errors import SpecError
from gptzoo.model.architecture import Architecture

needs_tiktoken_files = pytest.mark.skipif(
    not os.environ.get("TIKTOKEN_CACHE_DIR"), reason="TIKTOKEN_CACHE_DIR is not set to a folder with the gpt2 files"
)

SMALL = {"vocab_size": 13, "context_length": 16, "d_model": 32, "n_layers": 2, "n_heads": 4}


def small(**changes: Any) -> dict[str, Any]:
    """Return the JSON of a tiny model spec with some fields changed. A change to None omits the field."""
    return {key: value for key, value in {**SMALL, **changes}.items() if value is not None}


# ---------------------------------------------------------------------- plugins


def plugin_of(*components: Any) -> Any:
    """Return a plugin that offers these components."""

    class Plugin:
        @gptzoo.hookimpl
        def gptzoo_components(self) -> list[Any]:
            return list(components)

    return Plugin()


def admit(*components: Any, plugin: str = "theirs") -> None:
    """Add components to the current registry, as the plugin of a package would."""
    registry.current().admit(plugin_of(*components), registry.Origin(plugin, f"gptzoo-{plugin}", "1.0"))


# ---------------------------------------------------------------------- arithmetic


@dataclass(frozen=True)
class Arithmetic:
    """The device, dtype and tolerance of a model test."""

    name: str
    device: str
    dtype: torch.dtype = torch.float32
    autocast: bool = False  # bf16 as in training: matrix products in bf16, weights in fp32
    tolerance: float = 1e-5

    def model(self, spec: Any, *, seed: int = 1) -> Architecture:
        """Build a model in eval mode, with weights so large that every component affects the logits."""
        model = gptzoo.build(spec, seed=seed).eval()
        return with_large_weights(model).to(device=self.device, dtype=self.dtype)

    def close(self, actual: Tensor, expected: Tensor) -> None:
        torch.testing.assert_close(actual, expected, rtol=self.tolerance, atol=self.tolerance)

    def context(self) -> contextlib.AbstractContextManager[Any]:
        if not self.autocast:
            return contextlib.nullcontext()
        # Without the cache of casts, in which weights that a test changes in place would keep their old values.
        return torch.autocast(self.device, torch.bfloat16, cache_enabled=False)


CPU_ARITHMETICS = [
    Arithmetic("cpu-fp32", "cpu"),
    Arithmetic("cpu-fp64", "cpu", torch.float64, tolerance=1e-11),
]
CUDA_ARITHMETICS = [
    Arithmetic("cuda-fp32", "cuda", tolerance=1e-4),
    Arithmetic("cuda-bf16", "cuda", autocast=True, tolerance=1e-1),
]


def with_large_weights(model: Any, seed: int = 0) -> Any:
    """Fill the parameters with large values. Initial weights are so small that attention is nearly uniform."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            if parameter.ndim > 1:
                parameter.copy_(noise * parameter.shape[-1] ** -0.5)
            else:  # the weights of norms are about 1, biases about 0
                parameter.copy_(float(name.endswith("weight")) + 0.3 * noise)
    return model


def tokens_of(model: Any, batch_size: int, length: int, seed: int = 3) -> Tensor:
    """Draw token ids (B, T) on the model's device."""
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.randint(model.spec.vocab_size, (batch_size, length), generator=generator)
    return tokens.to(model.embed.weight.device)


def logits_of(model: nn.Module, tokens: Tensor, **options: Any) -> Tensor:
    """Return logits (B, T, V)."""
    logits, loss = model(tokens, **options)
    assert loss is None
    return logits


# ---------------------------------------------------------------------- specs that cover the registry


def types_with_defaults(kind: str) -> list[str]:
    """Return the components of a kind without required options."""
    return [name for name, component in registry.current().of_kind(kind).items() if _has_defaults(component)]


def _has_defaults(component: Any) -> bool:
    return not any(field.is_required() for field in component.Config.model_fields.values())


def covering_specs() -> dict[str, dict[str, Any]]:
    """Return specs by name: every valid attention x positional x norm, and every pair of two other choices.

    They come from the registry, so every test with these specs also tests installed components.
    """
    factors: dict[str, list[Any]] = {
        "attention": types_with_defaults("attention"),
        "positional": types_with_defaults("positional"),
        "norm": types_with_defaults("norm"),
        "norm_layer": types_with_defaults("norm_layer"),
        "ffn": types_with_defaults("ffn"),
        "activation": types_with_defaults("activation"),
        "n_kv_heads": [None, 1, 2],
        "window": [None, 3],
        "qk_norm": [None, *types_with_defaults("norm_layer")],
        "dropout": [0.0, 0.3],
        "bias": [True, False],
        "tie_embeddings": [True, False],
    }
    specs = {}
    for row in _covering_rows(factors):
        if (spec := _valid_spec(row, {name: values[0] for name, values in list(factors.items())[3:]})) is not None:
            specs[f"{row['attention']}-{row['positional']}-{row['norm']}-{len(specs)}"] = spec
    return specs


def _valid_spec(row: dict[str, Any], defaults: dict[str, Any]) -> dict[str, Any] | None:
    """Return a valid spec for a row, with defaults where necessary, or None if its first three choices exclude it."""
    one_default = ({**row, name: value} for name, value in defaults.items())
    for relaxed in (row, *one_default, {**row, **defaults}):
        spec = _spec_of(relaxed)
        with contextlib.suppress(SpecError):  # such as a positional that this attention does not support
            gptzoo.load_model_spec(spec)
            return spec
    return None


def _covering_rows(factors: dict[str, list[Any]]) -> Iterator[dict[str, Any]]:
    """Yield choices of a value per factor that cover all triples of the first three factors and all pairs of others."""
    names = list(factors)
    values = [(name, index) for name in names for index in range(len(factors[name]))]
    uncovered = {pair for pair in itertools.combinations(values, 2) if pair[0][0] != pair[1][0]}

    def complete(chosen: dict[str, int]) -> dict[str, Any]:
        for name in names:
            if name not in chosen:
                chosen[name] = max(range(len(factors[name])), key=lambda index: gain(chosen, name, index))
        uncovered.difference_update(pairs_of(chosen))
        return {name: factors[name][chosen[name]] for name in names}

    def pairs_of(chosen: dict[str, int]) -> list[Any]:
        return list(itertools.combinations([(name, chosen[name]) for name in names if name in chosen], 2))

    def gain(chosen: dict[str, int], name: str, index: int) -> int:
        return len(uncovered.intersection(pairs_of({**chosen, name: index})))

    for triple in itertools.product(*(range(len(factors[name])) for name in names[:3])):
        yield complete(dict(zip(names, triple, strict=False)))
    while uncovered:
        yield complete(dict(min(uncovered)))


def _spec_of(row: dict[str, Any]) -> dict[str, Any]:
    options = registry.current().of_kind("attention")[row["attention"]].Config.model_fields
    attention = {name: row[name] for name in ("n_kv_heads", "window", "qk_norm") if name in options}
    norm: dict[str, Any] = {"type": row["norm"]}
    if "layer" in registry.current().of_kind("norm")[row["norm"]].Config.model_fields:
        norm["layer"] = row["norm_layer"]
    return small(
        attention={"type": row["attention"], **attention},
        positional=row["positional"],
        norm=norm,
        ffn=row["ffn"],
        activation=row["activation"],
        dropout=row["dropout"],
        bias=row["bias"],
        tie_embeddings=row["tie_embeddings"],
    )


# Components that differ between layers: local and global attention, layers without positions, different networks.
HYBRIDS = {
    "hybrid-attention": small(
        n_layers=3, attention=[{"type": "sdpa", "window": 3}, {"type": "naive", "n_kv_heads": 1}], positional="rope"
    ),
    "hybrid-positional": small(n_layers=3, positional=["rope", "rope", "none"]),
    "hybrid-ffn": small(n_layers=3, positional=["rope", "learned"], ffn=["mlp", {"type": "glu", "activation": "silu"}]),
}
SPECS = {**covering_specs(), **HYBRIDS}
