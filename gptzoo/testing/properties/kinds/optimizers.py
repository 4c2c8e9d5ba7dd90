"""Properties of optimizers: they train every parameter, follow the schedule, and resume from a saved state."""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Collection, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from gptzoo.component import Config
from gptzoo.testing.at_size.option_draws import describe_options, other_configs
from gptzoo.testing.at_size.parameter_sets import OptimizerRun, many_parameters, model_parameters
from gptzoo.testing.component_under_test import ComponentUnderTest
from gptzoo.testing.verdict import Failed
from gptzoo.training.optim.group_state import remember_groups
from gptzoo.training.run.checkpoint_state import read_checkpoint_state, write_checkpoint_state

_N_STEPS = 30
_STEPS_TO_RESUME_AT = (1, 3, 17, 33, 65, 101)
_STEPS_AFTER = 20
_N_CONFIGS = 14  # with other options
_ROUNDING = 1e-4  # relative; sums over all parameters may be in another order


def check_learning(subject: ComponentUnderTest) -> None:
    """Check that it lowers a quadratic loss of the parameters of a small model, and changes every parameter."""
    parameters = model_parameters()
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
    parameters = model_parameters()
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


def check_parameters(subject: ComponentUnderTest) -> None:
    """Check that it changes parameters of all shapes, in any number, the same way in whatever order they come."""
    run = OptimizerRun(subject.config, many_parameters())
    initial_values = run.values()
    reversed_run = OptimizerRun(subject.config, dict(reversed(many_parameters().items())))
    for each in (run, reversed_run):
        each.train(range(6))
    for name, parameter in run.parameters.items():
        shape = f"of shape {tuple(parameter.shape)}"
        if not parameter.isfinite().all():
            raise Failed(f"6 steps make {name} {shape} NaN or infinite")
        if torch.equal(parameter, initial_values[name]):
            raise Failed(f"6 steps do not change {name} {shape}")
        other = reversed_run.parameters[name]
        change = (parameter - initial_values[name]).abs().max()
        if (difference := (parameter - other).abs().max()) > _ROUNDING * change:
            raise Failed(
                f"with {len(run.parameters)} parameters in reverse order, 6 steps change {name} {shape} otherwise: the "
                f"values differ by {difference:.2g}, after a change of {change:.2g}"
            )


def check_missing_gradients(subject: ComponentUnderTest) -> None:
    """Check that a parameter without a gradient keeps its value, and goes on once it has one again."""
    run = OptimizerRun(subject.config, many_parameters())
    absent = [*run.parameters][::3]
    run.train(range(1), without=absent)
    for steps in (range(1, 5), range(5, 8)):
        run.train(steps)
        before = run.values()
        run.train(range(steps.stop, steps.stop + 3), without=absent)
        if changed := [name for name in absent if not torch.equal(run.parameters[name], before[name])]:
            raise Failed(f"3 steps without a gradient of {changed[0]} change it")
    before = run.values()
    run.train(range(8, 10))
    for name, parameter in run.parameters.items():
        if not parameter.isfinite().all() or torch.equal(parameter, before[name]):
            raise Failed(f"after steps without a gradient, two steps with one leave {name} unchanged or not finite")


def check_zero_gradients(subject: ComponentUnderTest) -> None:
    """Check that gradients of zeros, alone or after others, leave every parameter finite."""
    run = OptimizerRun(subject.config, many_parameters())
    always, later = [*run.parameters][::3], [*run.parameters][1::3]
    run.train(range(3), zero=always)
    run.train(range(3, 60), zero=[*always, *later])
    for name, parameter in run.parameters.items():
        if not parameter.isfinite().all():
            raise Failed(
                f"60 steps with gradients of zeros make {name} of shape {tuple(parameter.shape)} NaN or infinite"
            )


def check_bfloat16(subject: ComponentUnderTest) -> None:
    """Check that it trains parameters in bfloat16, which keep their dtype."""
    run = OptimizerRun(subject.config, many_parameters(torch.bfloat16))
    first_loss = run.loss()
    run.train(range(_N_STEPS))
    for name, parameter in run.parameters.items():
        if parameter.dtype != torch.bfloat16 or not parameter.isfinite().all():
            raise Failed(f"{_N_STEPS} steps make {name} {parameter.dtype}, NaN or infinite")
    if not run.loss() < first_loss:
        raise Failed(f"in {_N_STEPS} steps a quadratic loss goes from {first_loss:.6g} to {run.loss():.6g}")


def check_resuming(subject: ComponentUnderTest) -> None:
    """Check that training resumed from a saved optimizer state is equal bit for bit to training without a stop."""
    is_sample = not subject.effort.n_random
    _require_resumable(subject.config, _STEPS_TO_RESUME_AT[1:4:2] if is_sample else _STEPS_TO_RESUME_AT, _STEPS_AFTER)
    for config in itertools.islice(other_configs(subject), 1, 4 if is_sample else _N_CONFIGS):
        _require_resumable(config, (3,), 3)


def check_evaluation_weights(subject: ComponentUnderTest) -> str | None:
    """Check that computing weights for evaluation changes nothing in training, and a resumed run has the same ones."""
    run, undisturbed = (OptimizerRun(subject.config, many_parameters(n_equal=2)) for _ in range(2))
    values = _after_steps(run, undisturbed)
    if values is None:
        return "it evaluates the weights that it trains"
    if wrong := [name for name in values if name not in run.parameters]:
        raise Failed(f"evaluation_weights returns {wrong[0]}, which is no parameter")
    for name, value in values.items():
        parameter = run.parameters[name]
        if value.shape != parameter.shape or value.dtype != parameter.dtype or not value.isfinite().all():
            raise Failed(
                f"the weights for evaluation of {name} of shape {tuple(parameter.shape)} have the shape "
                f"{tuple(value.shape)} and the dtype {value.dtype}, or are not finite"
            )
        if value.data_ptr() == parameter.data_ptr() and value.numel():
            raise Failed(f"the weights for evaluation of {name} are the parameter itself; return a copy")
    resumed = _resume(subject.config, run).evaluation_weights() or {}
    for name, value in values.items():
        if name not in resumed or not torch.equal(resumed[name], value):
            raise Failed(f"after resuming from a checkpoint, the weights for evaluation of {name} differ")
    return None


def _after_steps(run: OptimizerRun, undisturbed: OptimizerRun) -> Mapping[str, Tensor] | None:
    """Take a few steps with two equal runs, and return the weights for evaluation of the first.

    Raises Failed if computing them has changed its training.
    """
    for step in range(4):
        run.evaluation_weights()
        for each in (run, undisturbed):
            each.train([step])
    values = run.evaluation_weights()
    for name, parameter in run.parameters.items():
        if not torch.equal(parameter, undisturbed.parameters[name]):
            raise Failed(f"evaluation_weights changes the training of {name} of shape {tuple(parameter.shape)}")
    return values


def behaviour(config: Config) -> dict[str, Tensor]:
    """Return the parameters after six training steps."""
    parameters = model_parameters()
    optimizer = _create(config, parameters)
    for _ in range(6):
        _training_step(optimizer, parameters)
    return {name: p.detach().clone() for name, p in parameters.items()}


def _require_resumable(config: Config, steps: Collection[int], n_after: int) -> None:
    """Require that a run which is resumed at one of `steps` has the values of one without a stop `n_after` steps on."""
    run = OptimizerRun(config, many_parameters(n_equal=2))
    resumed_runs: dict[int, OptimizerRun] = {}
    for step in range(max(steps) + n_after + 1):
        if step in steps:
            resumed_runs[step] = _resume(config, run)
            resumed_runs[step].train(range(step, step + n_after))
        if (resumed := resumed_runs.get(step - n_after)) is not None:
            for name, parameter in run.parameters.items():
                if not torch.equal(resumed.parameters[name], parameter):
                    difference = (resumed.parameters[name] - parameter).abs().max().item()
                    raise Failed(
                        f"{n_after} steps after resuming from the state of step {step - n_after}, "
                        f"{name} of shape {tuple(parameter.shape)} differs by {difference:.2g}"
                        f"{describe_options(config)}"
                    )
        run.train([step])


def _resume(config: Config, run: OptimizerRun) -> OptimizerRun:
    """Save the state of a run and return a new run that was resumed from it."""
    parameters = {name: nn.Parameter(value) for name, value in run.values().items()}
    resumed = OptimizerRun(config, parameters)
    with tempfile.TemporaryDirectory() as folder:
        write_checkpoint_state(Path(folder), {}, run.optimizer, run.parameters)
        read_checkpoint_state(Path(folder), resumed.optimizer, parameters)
    return resumed


def _create(config: Config, parameters: Mapping[str, nn.Parameter]) -> torch.optim.Optimizer:
    optimizer: torch.optim.Optimizer = config.build().create(parameters)
    return remember_groups(optimizer)


def _training_step(optimizer: torch.optim.Optimizer, parameters: Mapping[str, nn.Parameter]) -> float:
    """Take one step towards fixed random values and return the loss before it."""
    generator = torch.Generator().manual_seed(0)
    distances: list[Tensor] = []
    for parameter in parameters.values():
        distances.append((parameter - torch.randn(parameter.shape, generator=generator)).square().sum())
    loss = torch.stack(distances).sum()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.item()
