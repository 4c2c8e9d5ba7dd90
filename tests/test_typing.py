"""Programs and packages that use gptzoo pass mypy at its strictest."""

from __future__ import annotations

from pathlib import Path

import pytest

PROGRAM = """
from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import torch
from torch import Tensor

import gptzoo


class Mish(gptzoo.Activation):
    name = "mish"

    class Config(gptzoo.Activation.Config):
        beta: float = 1.0

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.tanh(x)


class Network(gptzoo.FeedForward):
    name = "network"

    class Config(gptzoo.FeedForward.Config):
        norm: Annotated[Any, gptzoo.Reference("norm_layer")] = gptzoo.by_default("rmsnorm")

    def __init__(self, config: Any, dims: gptzoo.Dims) -> None:
        super().__init__(config, dims)
        self.up = torch.nn.Linear(dims.d_model, dims.d_model)

    def forward(self, x: Tensor, step: gptzoo.Step, state: dict[str, Tensor] | None = None) -> Tensor | gptzoo.Emit:
        return gptzoo.Emit(self.up(x), metrics={"size": x.norm()})


class Greedy(gptzoo.LogitsProcessor):
    name = "greedy"

    def __call__(self, logits: Tensor, rows: Sequence[gptzoo.Row]) -> Tensor:
        return logits


@gptzoo.hookimpl
def gptzoo_components() -> list[type[gptzoo.Component]]:
    return [Mish, Network, Greedy]


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


@pytest.mark.slow
def test_what_is_public_is_typed(tmp_path: Path) -> None:
    api = pytest.importorskip("mypy.api")
    file = tmp_path / "program.py"
    file.write_text(PROGRAM)
    (tmp_path / "mypy.ini").write_text("[mypy]\n")  # without pydantic's plugin, which a user may not know of
    options = ("--strict", "--config-file", tmp_path / "mypy.ini", "--cache-dir", tmp_path / "cache")
    told, wrong, code = api.run([*map(str, options), str(file)])
    assert code == 0, told + wrong
