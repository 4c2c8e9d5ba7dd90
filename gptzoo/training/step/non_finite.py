"""Where a number that is not finite came from: what a person wants to know of a run that diverged."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from gptzoo.checkpoint.sharded_tensors import full_tensor


def origin_of_non_finite(model: nn.Module, tensors: Mapping[str, Tensor], forward: Callable[[], Any]) -> str:
    """In words, the first of a model's tensors or module outputs that is not finite when `forward` runs it once more.

    Modules are told by their path; of nested ones the innermost is named. Raises nothing and changes no weight.
    """
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not full_tensor(tensor).isfinite().all():
            return f"{name} is not finite itself"
    found: list[str] = []

    def note(path: str) -> Callable[..., None]:
        def hook(module: nn.Module, inputs: Any, output: Any) -> None:
            if not found and any(_is_non_finite(value) for value in tree_leaves(output)):
                found.append(path)

        return hook

    hooks = [module.register_forward_hook(note(path)) for path, module in model.named_modules() if path]
    try:
        with torch.no_grad():
            forward()
    finally:
        for hook in hooks:
            hook.remove()
    return f"first in the output of {found[0]}" if found else "in no module's output, but in the loss"


def origin_of_gradient(
    model: nn.Module, parameters: Mapping[str, nn.Parameter], losses: Iterable[Callable[[], Tensor]]
) -> str:
    """In words, the first module in the backward passes of `losses` that makes a gradient that is not finite.

    It is looked for among modules that hold no others. The gradients that are there are added to.
    """
    found: list[str] = []

    def note(path: str) -> Callable[..., None]:
        def hook(module: nn.Module, of_inputs: Any, of_outputs: Any) -> None:
            if not found and any(map(_is_non_finite, of_inputs)) and not any(map(_is_non_finite, of_outputs)):
                found.append(path)

        return hook

    leaves = [(path, module) for path, module in model.named_modules() if not any(module.children())]
    hooks = [module.register_full_backward_hook(note(path)) for path, module in leaves]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch says of embeddings that none of their inputs has a gradient
            for loss in losses:
                loss().backward()
                if found:
                    return f"first in the backward pass of {found[0]}"
    finally:
        for hook in hooks:
            hook.remove()
    names = [n for n, p in parameters.items() if p.grad is not None and not full_tensor(p.grad).isfinite().all()]
    return f"in the gradient of {', '.join(names[:3])}{', …' if names[3:] else ''}"


def _is_non_finite(value: Any) -> bool:
    return isinstance(value, Tensor) and value.is_floating_point() and not bool(value.isfinite().all())
