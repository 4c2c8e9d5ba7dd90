"""Properties of optimizers: they train, follow the schedule, and resume from a saved state."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from gptzoo.component import Config
from gptzoo.model.build import build
from gptzoo.testing.component_under_test import ComponentUnderTest
from gptzoo.testing.tiny_model import TINY_MODEL
from gptzoo.testing.verdict import Failed
from gptzoo.training.optim.group_state import remember_groups
from gptzoo.training.run.checkpoint_state import read_checkpoint_state, write_checkpoint_state
from gptzoo.utils.seeds import seed_all_generators

_N_STEPS = 30


def check_learning(subject: ComponentUnderTest) -> None:
    """Check that it lowers a quadratic loss of the parameters of a small model, and changes every parameter."""
    parameters = _parameters()
    initial_values = {name: p.detach().clone() for name, p in parameters.items()}
    optimizer = _create(subject.config, parameters)
    first_loss = _training_step(optimizer, parameters)
    for _ in range(_N_STEPS):
        last_loss = _training_step(optimizer, parameters)
    if not last_loss < first_loss:
        raise Failed(f"in {_N_STEPS} steps a quadratic loss goes from {first_loss:.6g} to {last_loss:.6g}")
    if unchanged := [name for name, p in parameters.items() if torch.equal(p, initial_values[name])]:
        raise Failed(f"{_N_STEPS} steps do not change {', '.join(unchanged)}")


def check_learning_rate(subject: ComponentUnderTest) -> None:
    """Check that every parameter group has an `lr`, which the schedule sets, and no parameter changes with `lr` 0."""
    parameters = _parameters()
    optimizer = _create(subject.config, parameters)
    grouped = [id(p) for group in optimizer.param_groups for p in group["params"]]
    for name, parameter in parameters.items():
        if (n_groups := grouped.count(id(parameter))) != 1:
            raise Failed(f"{name} is in {n_groups} parameter groups; expected one")
    for group in optimizer.param_groups:
        group["lr"] = 0.0
    initial_values = {name: p.detach().clone() for name, p in parameters.items()}
    for _ in range(2):
        _training_step(optimizer, parameters)
    if changed := [name for name, p in parameters.items() if not torch.equal(p, initial_values[name])]:
        raise Failed(f"with lr 0 in every group a step changes {', '.join(changed[:3])}")


def check_resuming(subject: ComponentUnderTest) -> None:
    """Check that training resumed from a saved optimizer state is equal bit for bit to training without a stop."""
    parameters = _parameters()
    optimizer = _create(subject.config, parameters)
    for step in range(3):
        _training_step(optimizer, parameters, step)
    resumed_parameters = _parameters()
    with torch.no_grad():
        for name, parameter in resumed_parameters.items():
            parameter.copy_(parameters[name])
    with tempfile.TemporaryDirectory() as folder:
        write_checkpoint_state(Path(folder), {}, optimizer, parameters)
        resumed_optimizer = _create(subject.config, resumed_parameters)
        read_checkpoint_state(Path(folder), resumed_optimizer, resumed_parameters)
    for step in range(3, 6):
        _training_step(optimizer, parameters, step)
        _training_step(resumed_optimizer, resumed_parameters, step)
    for name, parameter in parameters.items():
        if not torch.equal(resumed_parameters[name], parameter):
            difference = (resumed_parameters[name] - parameter).abs().max().item()
            raise Failed(f"3 steps after resuming from a saved state, {name} differs by {difference:.2g}")


def behaviour(config: Config) -> dict[str, Tensor]:
    """Return the parameters after six training steps."""
    parameters = _parameters()
    optimizer = _create(config, parameters)
    for _ in range(6):
        _training_step(optimizer, parameters)
    return {name: p.detach().clone() for name, p in parameters.items()}


def _create(config: Config, parameters: Mapping[str, nn.Parameter]) -> torch.optim.Optimizer:
    optimizer: torch.optim.Optimizer = config.build().create(parameters)
    return remember_groups(optimizer)


def _parameters() -> dict[str, nn.Parameter]:
    """Return the parameters of a model of one layer: matrices, vectors and embeddings."""
    return dict(build({**TINY_MODEL, "n_layers": 1}).named_parameters())


def _training_step(
    optimizer: torch.optim.Optimizer, parameters: Mapping[str, nn.Parameter], step: int | None = None
) -> float:
    """Take one step towards fixed random values and return the loss before it.

    step: the number of the step. The learning rates and random numbers of a run are functions of it.
    """
    generator = torch.Generator().manual_seed(0)
    distances: list[Tensor] = []
    for parameter in parameters.values():
        distances.append((parameter - torch.randn(parameter.shape, generator=generator)).square().sum())
    loss = torch.stack(distances).sum()
    optimizer.zero_grad()
    loss.backward()
    if step is not None:
        seed_all_generators(step)
        for group in optimizer.param_groups:
            group["lr"] = optimizer.defaults.get("lr", group["lr"])
    optimizer.step()
    return loss.item()
