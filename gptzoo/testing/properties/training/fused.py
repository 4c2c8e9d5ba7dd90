"""Fused matrices: a part declares the matrices in each of its parameters, and Muon trains each by itself."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from gptzoo.components.part import FusedBlocks, Part
from gptzoo.components.tensor_parallel import resolve_plan
from gptzoo.components.tensor_plan import ColumnParallel
from gptzoo.errors import InputError
from gptzoo.model.fused_blocks import fused_blocks
from gptzoo.model.stack import Stack
from gptzoo.testing.compare import TOLERANCE, relative_difference
from gptzoo.testing.component_under_test import ModelPartUnderTest
from gptzoo.testing.verdict import Failed
from gptzoo.training.named_parameters import NamedParameters
from gptzoo.training.optim.muon import Muon

_N_STEPS = 2  # the second uses the momentum of the first
_N_PROCESSES = 2
_OPTIMIZER = Muon.Config(type="muon", adjust_lr="match_rms_adamw")  # which depends on the shape of every matrix


def check_fused_matrices(subject: ModelPartUnderTest) -> None:
    """Check that `fused_blocks` covers each parameter which holds several matrices, and Muon trains each by itself."""
    model = subject.model().train()
    try:
        blocks = fused_blocks(model)
    except RuntimeError as error:
        raise Failed(str(error)) from None
    for path, part in subject.instances(subject.model()):  # of another model, because a plan changes the part
        assert isinstance(part, Part)
        _check_declared(path, part, blocks)
    paths = [path for path, _ in subject.instances(model)]
    own = {name: of for name, of in blocks.items() if any(name.startswith(f"{path}.") for path in paths)}
    if own:
        _check_training(subject, model, own)


def _check_declared(path: str, part: Part, blocks: dict[str, FusedBlocks]) -> None:
    """Raise Failed if the tensor-parallel plan knows several matrices in a parameter that is not declared."""
    try:
        plan = resolve_plan(part, _N_PROCESSES)
    except (InputError, RuntimeError):  # no plan, or a wrong one, which `tensor_parallel` reports
        return
    for key, split in plan.items():
        name = f"{path}.{key}.weight"
        if isinstance(split, ColumnParallel) and split.widths is not None and name not in blocks:
            raise Failed(
                f"the tensor-parallel plan says that {name} holds {len(split.widths)} matrices, but fused_blocks does "
                "not declare them"
            )


def _check_training(subject: ModelPartUnderTest, model: Stack, blocks: dict[str, FusedBlocks]) -> None:
    """Raise Failed if Muon trains a fused parameter in another way than its matrices as parameters of their own."""
    parameters = {name: parameter for name, parameter in model.named_parameters() if name in blocks}
    fused = {name: nn.Parameter(parameter.detach().clone()) for name, parameter in parameters.items()}
    separate = {
        (name, index): nn.Parameter(matrix)
        for name, parameter in parameters.items()
        for index, matrix in enumerate(_matrices(parameter.detach(), blocks[name]))
    }
    by_name = {f"{name}.{index}": matrix for (name, index), matrix in separate.items()}
    optimizers = [_OPTIMIZER.build().create(of) for of in (NamedParameters(fused, blocks), by_name)]
    for step in range(_N_STEPS):
        gradients = _gradients(subject, model, step)
        for name, parameter in fused.items():
            parameter.grad = gradients[name]
        for (name, index), matrix in separate.items():
            matrix.grad = _matrices(gradients[name], blocks[name])[index]
        for optimizer in optimizers:
            optimizer.step()
    for (name, index), matrix in separate.items():
        actual = _matrices(fused[name].detach(), blocks[name])[index]
        if (difference := relative_difference(actual, matrix.detach()).max()) > TOLERANCE:
            raise Failed(
                f"{_N_STEPS} steps of Muon change matrix {index} of {name} in another way than as a parameter of its "
                f"own: it differs by {difference:.2g}"
            )


def _gradients(subject: ModelPartUnderTest, model: Stack, step: int) -> dict[str, Tensor]:
    """Return the gradient of each parameter in a training step, zeros if the loss does not depend on it."""
    model.zero_grad()
    tokens = subject.tokens(2, 8, seed=step)
    torch.manual_seed(0)
    model(tokens, tokens.roll(-1, 1))[1].backward()
    return {name: torch.zeros_like(p) if p.grad is None else p.grad for name, p in model.named_parameters()}


def _matrices(parameter: Tensor, blocks: FusedBlocks) -> list[Tensor]:
    """Return the matrices in a parameter, by slices of its rows."""
    period, matrices, first = sum(blocks.sizes), [], 0
    for size in blocks.sizes:
        slices = [parameter.narrow(0, repeat * period + first, size) for repeat in range(blocks.repeats)]
        matrices.append(torch.cat(slices))
        first += size
    return matrices
