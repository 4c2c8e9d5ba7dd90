"""Programs and packages that use gptzoo pass `mypy --strict`, and their authors get completion for options."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from gptzoo import registry

PROGRAM = """
from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Annotated

import torch
from torch import Tensor

import gptzoo


class Mish(gptzoo.Activation):
    name = "mish"

    class Config(gptzoo.Activation.Config):
        beta: float = 1.0

    config: Config

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.tanh(self.config.beta * x)


class Network(gptzoo.FeedForward):
    name = "network"

    class Config(gptzoo.FeedForward.Config):
        norm: Annotated[gptzoo.NormLayer.Config, gptzoo.Reference("norm_layer")] = gptzoo.by_default("rmsnorm")
        bias: gptzoo.Inherited[bool] = gptzoo.inherited("bias")

        def problems(self, dims: gptzoo.Dims) -> Iterator[tuple[str, str]]:
            if dims.d_model < 8:
                yield "", f"needs a d_model of at least 8, got {dims.d_model}"

    config: Config

    def __init__(self, config: Config, dims: gptzoo.Dims) -> None:
        super().__init__(config, dims)
        self.norm = config.norm.build(dims.d_model)
        self.up = torch.nn.Linear(dims.d_model, dims.d_model, bias=config.bias)

    def forward(
        self, x: Tensor, context: gptzoo.ForwardContext, state: gptzoo.State | None = None
    ) -> Tensor | gptzoo.SublayerOutput:
        return gptzoo.SublayerOutput(self.up(self.norm(x)), metrics={"size": x.norm()})


class FixedNorm(gptzoo.Norm):
    name = "fixed"

    @classmethod
    def exit(cls, config: gptzoo.Norm.Config, dims: gptzoo.Dims) -> torch.nn.Module:
        return config.layer.build(dims.d_model)


class LocalAttention(gptzoo.MultiHeadAttention):
    name = "local"

    class Config(gptzoo.MultiHeadAttention.Config):
        radius: int = 8

    config: Config

    def __init__(self, config: Config, dims: gptzoo.Dims) -> None:
        super().__init__(config, dims)
        self.reach: int = config.radius * config.n_kv_heads


class Greedy(gptzoo.LogitsProcessor):
    name = "greedy"

    def __call__(self, logits: Tensor, sequences: Sequence[gptzoo.TokenSequence]) -> Tensor:
        return logits


@gptzoo.hookimpl
def gptzoo_components() -> list[type[gptzoo.Component]]:
    return [Mish, Network, FixedNorm, LocalAttention, Greedy]


spec = gptzoo.ModelSpec(context_length=16, d_model=32, n_layers=2, n_heads=4, norm="pre_ln", ffn=["mlp", "glu"])
run = gptzoo.RunSpec(model=spec, steps=5, optimizer={"type": "adamw", "lr": 1e-3}, trackers=("csv",))
rate: float = run.optimizer.lr
logits, loss = gptzoo.build(spec)(torch.zeros(1, 2, dtype=torch.int64))
result = gptzoo.train(run, "out", resume=True)
loaded = gptzoo.load(result.folder)
sampling = gptzoo.SamplingSpec(max_new_tokens=3, processors=("temperature",))
ids: list[list[int]] = gptzoo.generate(loaded.model, [[1, 2]], sampling, loaded.tokenizer)
names: list[str] = [variant.name for variant in gptzoo.variants(run, {"model.norm": "*"})]
outcome = gptzoo.ablate("ablation.json", "out")
"""

MISTAKES = """
from __future__ import annotations

import gptzoo


class Mish(gptzoo.Activation):
    name = "mish"

    class Config(gptzoo.Activation.Config):
        beta: float = 1.0

    config: Config

    def __init__(self, config: Config, width: int) -> None:
        super().__init__(config, width)
        self.beta: str = config.beta  # a float
        self.gamma = self.config.gamma  # no such option


class Network(gptzoo.FeedForward):
    name = "network"

    def __init__(self, config: gptzoo.FeedForward.Config, dims: gptzoo.Dims) -> None:
        super().__init__(config, dims)
        self.width = dims.d_modle  # no such size


layer: gptzoo.Norm = gptzoo.NormLayer.Config().build(16)  # a NormLayer
"""


def strict_mypy(program: str, folder: Path) -> tuple[str, int]:
    """Return the output and exit code of `mypy --strict`, without pydantic's plugin, which users may not have."""
    api = pytest.importorskip("mypy.api")
    file = folder / "program.py"
    file.write_text(program)
    (folder / "mypy.ini").write_text("[mypy]\n")
    options = ("--strict", "--config-file", folder / "mypy.ini", "--cache-dir", folder / "cache")
    output, errors, code = api.run([*map(str, options), "--follow-imports", "silent", str(file)])
    return output + errors, code


@pytest.mark.slow
def test_a_third_party_package_is_strictly_typed(tmp_path: Path) -> None:
    output, code = strict_mypy(PROGRAM, tmp_path)
    assert code == 0, output


@pytest.mark.slow
def test_options_with_defaults_need_no_arguments(tmp_path: Path) -> None:
    """A type checker reads a default only from `Field(default=...)`, while pydantic accepts `Field(...)` too."""
    installed = registry.discover(selection="")
    components = [component for kind in installed.kinds for component in installed.of_kind(kind).values()]
    program = ""
    for component in components:
        module, name = component.__module__, component.__qualname__
        is_generated = not hasattr(sys.modules[module], name.split(".")[0])  # a type checker does not see it
        if not is_generated and not any(field.is_required() for field in component.Config.model_fields.values()):
            program += f"import {module}\n{module}.{name}.Config()\n"
    output, code = strict_mypy(program, tmp_path)
    assert code == 0, output


@pytest.mark.slow
def test_mistakes_in_a_component_are_type_errors(tmp_path: Path) -> None:
    output, _ = strict_mypy(MISTAKES, tmp_path)
    for message in (
        'Incompatible types in assignment (expression has type "float", variable has type "str")',
        '"Config" has no attribute "gamma"',
        '"Dims" has no attribute "d_modle"; maybe "d_model"?',
        'expression has type "NormLayer", variable has type "Norm"',
    ):
        assert message in output
    assert "Found 4 errors" in output
