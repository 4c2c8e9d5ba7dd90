"""What an optimizer owes: it learns, it obeys the schedule, and its state is kept by the name of the parameter."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from gptzoo.component import Config
from gptzoo.model.build import build
from gptzoo.testing.subject import HOST, Subject
from gptzoo.testing.verdict import Failed
from gptzoo.training.run.optimizer_state import read_training_state, write_training_state

_STEPS = 30


def learning(subject: Subject) -> None:
    """It lowers a quadratic of the parameters of a small model, and moves every one of them."""
    parameters = _parameters()
    before = {name: p.detach().clone() for name, p in parameters.items()}
    optimizer = _create(subject.config, parameters)
    first = _update(optimizer, parameters)
    for _ in range(_STEPS):
        last = _update(optimizer, parameters)
    if not last < first:
        raise Failed(f"{_STEPS} steps bring a quadratic from {first:.6g} to {last:.6g}")
    if still := [name for name, p in parameters.items() if torch.equal(p, before[name])]:
        raise Failed(f"{_STEPS} steps do not move {', '.join(still)}")


def learning_rate(subject: Subject) -> None:
    """Every group has an `lr`, by which the schedule rules: at 0, nothing moves."""
    parameters = _parameters()
    optimizer = _create(subject.config, parameters)
    grouped = [id(p) for group in optimizer.param_groups for p in group["params"]]
    for name, parameter in parameters.items():
        if grouped.count(id(parameter)) != 1:
            raise Failed(f"{name} is in {grouped.count(id(parameter))} groups; each parameter belongs into one")
    for group in optimizer.param_groups:
        group["lr"] = 0.0
    before = {name: p.detach().clone() for name, p in parameters.items()}
    for _ in range(2):
        _update(optimizer, parameters)
    if moved := [name for name, p in parameters.items() if not torch.equal(p, before[name])]:
        raise Failed(f"with lr 0 in every group a step moves {', '.join(moved[:3])}")


def resuming(subject: Subject) -> None:
    """Saved by parameter name and read back, it goes on bit for bit as if it had never stopped."""
    straight = _parameters()
    optimizer = _create(subject.config, straight)
    for _ in range(3):
        _update(optimizer, straight)
    resumed = _parameters()
    with torch.no_grad():
        for name, parameter in resumed.items():
            parameter.copy_(straight[name])
    with tempfile.TemporaryDirectory() as folder:
        write_training_state(Path(folder), {}, optimizer, straight)
        again = _create(subject.config, resumed)
        read_training_state(Path(folder), again, resumed)
    for _ in range(3):
        _update(optimizer, straight)
        _update(again, resumed)
    for name, parameter in straight.items():
        if not torch.equal(resumed[name], parameter):
            difference = (resumed[name] - parameter).abs().max().item()
            raise Failed(f"saved after 3 steps and resumed, {name} is off by {difference:.2g} after 3 more")


def behaviour(config: Config) -> dict[str, Any]:
    """What options could change."""
    parameters = _parameters()
    optimizer = _create(config, parameters)
    for _ in range(6):
        _update(optimizer, parameters)
    return {name: p.detach().clone() for name, p in parameters.items()}


def _create(config: Config, parameters: Mapping[str, nn.Parameter]) -> torch.optim.Optimizer:
    return config.build().create(parameters)


def _parameters() -> dict[str, nn.Parameter]:
    """Those of a model of one layer: matrices, vectors, embeddings."""
    return dict(build({**HOST, "n_layers": 1}).named_parameters())


def _update(optimizer: torch.optim.Optimizer, parameters: Mapping[str, nn.Parameter]) -> float:
    """One step towards fixed random values; the loss before it."""
    generator = torch.Generator().manual_seed(0)
    distances: list[Tensor] = []
    for parameter in parameters.values():
        distances.append((parameter - torch.randn(parameter.shape, generator=generator)).square().sum())
    loss = torch.stack(distances).sum()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.item()
