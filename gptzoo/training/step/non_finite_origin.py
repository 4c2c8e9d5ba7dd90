"""The diagnosis of a loss or gradient that is not finite: which number, in which rows, from which module."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from gptzoo.checkpoint.sharded_tensors import full_tensor
from gptzoo.training.step.micro_batch import MicroBatch
from gptzoo.training.step.train_step import Gradient, TrainStep

_MAX_NAMES = 3  # parameters named in a message


@dataclass(frozen=True)
class Diagnosis:
    """The value that is not finite, the rows of the batch that it is computed from, and its origin."""

    value: str
    rows: range
    origin: str


def diagnose(train_step: TrainStep, gradient: Gradient, micro_batches: Sequence[MicroBatch], step: int) -> Diagnosis:
    """Return the origin of a loss or gradient that is not finite. All ranks must call it."""
    ranks = train_step.ranks
    n_rows = sum(micro_batch.n_rows for micro_batch in micro_batches)

    def loss(micro_batch: MicroBatch) -> Tensor:
        return train_step.forward(micro_batch, step)[0]

    if gradient.losses_are_finite:
        losses = [partial(loss, micro_batch) for micro_batch in micro_batches] if ranks.size == 1 else []
        origin = origin_in_backward(train_step.model, train_step.parallelized.parameters(), losses)
        return Diagnosis(
            f"gradient norm of step {step + 1} is {gradient.norm}", range(n_rows * ranks.data_size), origin
        )
    index = int(gradient.losses.isfinite().logical_not().nonzero()[0])
    data_rank, local_index = divmod(index, len(micro_batches))
    tensors = train_step.parallelized.state_dict()
    origin = origin_in_forward(train_step.model, tensors, partial(loss, micro_batches[local_index]))
    origin = ranks.broadcast_from(data_rank * ranks.tensor_size, origin)
    first = data_rank * n_rows + sum(micro_batch.n_rows for micro_batch in micro_batches[:local_index])
    rows = range(first, first + micro_batches[local_index].n_rows)
    return Diagnosis(f"loss of step {step + 1} is {gradient.losses[index].item()}", rows, origin)


def origin_in_forward(model: nn.Module, tensors: Mapping[str, Tensor], forward: Callable[[], object]) -> str:
    """Describe the first tensor of the model that is not finite, or else the first such module output in `forward`.

    If modules are nested, the innermost one is named. The weights are not changed.
    """
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not full_tensor(tensor).isfinite().all():
            return f"{name} is not finite itself"
    paths: list[str] = []

    def record(path: str) -> Callable[..., None]:
        def hook(module: nn.Module, inputs: object, output: object) -> None:
            if not paths and any(_is_non_finite(value) for value in tree_leaves(output)):
                paths.append(path)

        return hook

    hooks = [module.register_forward_hook(record(path)) for path, module in model.named_modules() if path]
    try:
        with torch.no_grad():
            forward()
    finally:
        for hook in hooks:
            hook.remove()
    return f"first in the output of {paths[0]}" if paths else "in no module's output, but in the loss"


def origin_in_backward(
    model: nn.Module, parameters: Mapping[str, nn.Parameter], losses: Iterable[Callable[[], Tensor]]
) -> str:
    """Describe the module in the backward passes of `losses` that is first to produce a non-finite gradient.

    Only modules without submodules are checked. The backward passes add to the gradients of the parameters.
    """
    paths: list[str] = []

    def record(path: str) -> Callable[..., None]:
        def hook(module: nn.Module, input_gradients: Iterable[object], output_gradients: Iterable[object]) -> None:
            is_origin = any(map(_is_non_finite, input_gradients)) and not any(map(_is_non_finite, output_gradients))
            if not paths and is_origin:
                paths.append(path)

        return hook

    leaves = [(path, module) for path, module in model.named_modules() if not any(module.children())]
    hooks = [module.register_full_backward_hook(record(path)) for path, module in leaves]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch warns that the inputs of embeddings have no gradient
            for loss in losses:
                loss().backward()
                if paths:
                    return f"first in the backward pass of {paths[0]}"
    finally:
        for hook in hooks:
            hook.remove()
    names = [n for n, p in parameters.items() if p.grad is not None and not full_tensor(p.grad).isfinite().all()]
    return f"in the gradient of {', '.join(names[:_MAX_NAMES])}{', …' if names[_MAX_NAMES:] else ''}"


def _is_non_finite(value: object) -> bool:
    return isinstance(value, Tensor) and value.is_floating_point() and not bool(value.isfinite().all())
