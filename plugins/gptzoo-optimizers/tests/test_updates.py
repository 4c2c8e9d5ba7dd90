"""The optimizers compared with direct use of their libraries, with a reference of schedule-free SGD, and in runs."""

from __future__ import annotations

import importlib
import random
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gptzoo_optimizers.catalog import Signature, tables
from safetensors.torch import load_file
from torch import Tensor, nn

import gptzoo

SIGNATURES = {name: signature for table in tables() for name, signature in table.signatures.items()}
FOR_ALL = sorted(n for n, s in SIGNATURES.items() if s.scope == "all" and s.weight_decay is not None)
FOR_MATRICES = sorted(n for n, s in SIGNATURES.items() if s.scope != "all")
SAMPLE = {*random.Random(2).sample(FOR_ALL, 4), *random.Random(3).sample(FOR_MATRICES, 2)}
SHAPES = {
    "blocks.0.attention.out.weight": (6, 6),
    "blocks.0.ffn.up.weight": (12, 6),
    "blocks.0.norm.weight": (6,),
    "embed.weight": (9, 6),
}


def names(of: list[str]) -> list[Any]:
    return [pytest.param(name, marks=() if name in SAMPLE else pytest.mark.slow) for name in of]


def parameters() -> dict[str, nn.Parameter]:
    generator = torch.Generator().manual_seed(3)
    return {name: nn.Parameter(torch.randn(shape, generator=generator)) for name, shape in SHAPES.items()}


def train(optimizer: torch.optim.Optimizer, trained: dict[str, nn.Parameter], n_steps: int = 8) -> None:
    generator = torch.Generator().manual_seed(4)
    for step in range(n_steps):
        for name in SHAPES:
            gradient = torch.randn(SHAPES[name], generator=generator)
            if name in trained:
                trained[name].grad = gradient
        torch.manual_seed(step)
        optimizer.step()


def library_optimizer(signature: Signature, groups: list[dict[str, Any]]) -> Any:
    """Construct a library's optimizer as its documentation says, with its own defaults."""
    library: Any = importlib.import_module(signature.library)
    if signature.library == "heavyball":
        library.utils.compile_mode = None
    options = {name: option.default for name, option in signature.options.items()}
    options = {name: tuple(value) if isinstance(value, list) else value for name, value in options.items()}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        optimizer: Any = getattr(library, signature.class_name)(groups, lr=signature.lr, **options)
    if signature.has_modes:
        optimizer.train()
    return optimizer


@pytest.mark.parametrize("name", names(FOR_ALL))
def test_an_optimizer_updates_as_the_library_does(name: str) -> None:
    signature, ours, theirs = SIGNATURES[name], parameters(), parameters()
    component = gptzoo.registered("optimizer")[name]
    optimizer = component.Config(weight_decay=0.01).build().create(ours)
    matrices = [p for n, p in sorted(theirs.items()) if p.ndim == 2]
    vectors = [p for n, p in sorted(theirs.items()) if p.ndim < 2]
    groups = [
        {"params": matrices, "weight_decay": 0.01, "lr": signature.lr},
        {"params": vectors, "weight_decay": 0.0, "lr": signature.lr},
    ]
    train(optimizer, ours)
    train(library_optimizer(signature, groups), theirs)
    for key, parameter in ours.items():
        assert torch.equal(parameter, theirs[key]), key
        assert not torch.equal(parameter, parameters()[key]), key


@pytest.mark.parametrize("name", names(FOR_MATRICES))
def test_an_optimizer_of_matrices_updates_those_in_blocks_and_adamw_the_rest(name: str) -> None:
    signature, ours, theirs = SIGNATURES[name], parameters(), parameters()
    component = gptzoo.registered("optimizer")[name]
    optimizer = component.Config(weight_decay=0.01, adamw_lr=0.002).build().create(ours)
    train(optimizer, ours)
    matrices = {n: p for n, p in sorted(theirs.items()) if n.startswith("blocks") and p.ndim == 2}
    flag = {"use_muon": True} if signature.scope == "flagged matrices" else {}
    group = {"params": list(matrices.values()), "weight_decay": 0.01, "lr": signature.lr, **flag}
    train(library_optimizer(signature, [group]), matrices)
    rest = {n: p for n, p in theirs.items() if n not in matrices}
    groups = [
        {"params": [rest["embed.weight"]], "weight_decay": 0.1},
        {"params": [rest["blocks.0.norm.weight"]], "weight_decay": 0.0},
    ]
    train(torch.optim.AdamW(groups, lr=0.002, betas=(0.9, 0.95)), rest)
    for key, parameter in ours.items():
        torch.testing.assert_close(parameter, theirs[key], rtol=1e-6, atol=1e-6, msg=key)


def test_the_weights_for_evaluation_of_schedule_free_sgd_are_the_average_of_the_paper() -> None:
    """Algorithm 1 of Defazio et al. 2024, in float64, on a quadratic: y = (1 - b) z + b x, x = mean of z."""
    trained = {"a": nn.Parameter(torch.tensor([2.0, -1.0, 0.5]))}
    curvature, lr, beta = np.array([1.0, 0.3, 2.0]), 0.2, 0.9
    component = gptzoo.registered("optimizer")["schedulefree.sgd"]
    built = component.Config(lr=lr, momentum=beta, weight_lr_power=0.0).build()
    optimizer = built.create(trained)
    assert built.evaluation_weights(optimizer, trained) is None
    z = x = y = trained["a"].detach().double().numpy()
    for t in range(1, 30):
        trained["a"].grad = torch.from_numpy(curvature).float() * trained["a"].detach()
        optimizer.step()
        z = z - lr * curvature * y
        x = (1 - 1 / t) * x + z / t
        y = (1 - beta) * z + beta * x
        np.testing.assert_allclose(trained["a"].detach().numpy(), y, rtol=1e-4, atol=1e-6)
        values = built.evaluation_weights(optimizer, trained)
        np.testing.assert_allclose(values["a"].numpy(), x, rtol=1e-4, atol=1e-6)


def spec(optimizer: str) -> dict[str, Any]:
    return {
        "model": {"context_length": 16, "d_model": 16, "n_layers": 1, "n_heads": 2},
        "corpus": {"type": "stories", "n_stories": 30},
        "tokenizer": "byte",
        "batch_size": 8,
        "steps": 8,
        "optimizer": optimizer,
        "eval": {"every": 4},
        "checkpoint": {"every": 4},
        "sample": {"max_new_tokens": 0},
        "device": "cpu",
        "precision": "fp32",
    }


def tensors(run: Path) -> dict[str, Tensor]:
    (checkpoint,) = (run / "checkpoints").glob("step-00000008")
    return {
        f"{file.name}:{name}": t for file in checkpoint.glob("*.safetensors") for name, t in load_file(file).items()
    }


@pytest.mark.parametrize(
    "name",
    [
        "schedulefree.adamw",
        pytest.param("heavyball.klsoap", marks=pytest.mark.slow),
        pytest.param("pytorch_optimizer.prodigy", marks=pytest.mark.slow),
    ],
)
def test_a_run_that_was_stopped_ends_bitwise_the_same(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GPTZOO_CACHE", str(tmp_path / "cache"))
    result = gptzoo.train(spec(name), tmp_path / "whole", quiet=True)
    gptzoo.train(spec(name), tmp_path / "paused", until=5, quiet=True)
    gptzoo.train(spec(name), tmp_path / "paused", resume=True, quiet=True)
    whole, resumed = tensors(tmp_path / "whole"), tensors(tmp_path / "paused")
    assert whole.keys() == resumed.keys()
    assert all(torch.equal(whole[key], resumed[key]) for key in whole)
    assert gptzoo.evaluate(tmp_path / "whole").likelihood.loss == result.metrics["val/loss"]
    if SIGNATURES[name].has_modes:
        key = "blocks.0.ffn.up.weight"
        assert not torch.equal(whole[f"trained.safetensors:{key}"], whole[f"model.safetensors:{key}"])
