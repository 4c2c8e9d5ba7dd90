"""The observable behaviour of a component, to decide whether an option changes anything."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from gptzoo.component import Config
from gptzoo.components.sublayer import AuxiliaryOutputs, Sublayer
from gptzoo.model.architecture import Architecture
from gptzoo.model.build import build, build_on_meta
from gptzoo.testing.component_under_test import ComponentUnderTest, ModelPartUnderTest
from gptzoo.testing.properties.kinds import optimizers, processors, schedules
from gptzoo.testing.tiny_model import TINY_MODEL, add_weight_noise, supply_required_inputs

Behaviour = dict[str, Any]  # by name of the aspect: tensors, shapes, numbers or lists of them

_BEHAVIOUR_BY_KIND: dict[str, Callable[[Config], Behaviour]] = {
    "logits_processor": processors.behaviour,
    "optimizer": optimizers.behaviour,
    "schedule": schedules.behaviour,
}


def observe_behaviour(subject: ComponentUnderTest, config: Config) -> Behaviour:
    """Return everything about a component with this config that is visible from outside."""
    if isinstance(subject, ModelPartUnderTest):
        return dict(_behaviour_of_model_part(subject, config))
    return _BEHAVIOUR_BY_KIND[subject.kind](config)


def behaviours_differ(first: Behaviour, second: Behaviour) -> bool:
    """Return True if any aspect differs, even by one bit."""
    return first.keys() != second.keys() or any(not _equal(first[name], second[name]) for name in first)


def _equal(a: object, b: object) -> bool:
    if isinstance(a, Tensor) and isinstance(b, Tensor):
        return a.shape == b.shape and a.dtype == b.dtype and torch.equal(a.nan_to_num(), b.nan_to_num())
    return type(a) is type(b) and a == b


def _behaviour_of_model_part(subject: ModelPartUnderTest, config: Config) -> Iterator[tuple[str, object]]:
    spec = subject.spec(config)
    model = build(spec)
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        yield f"initial {name}", tensor.clone()
    for layer in model.new_states(2, 8, device="meta"):
        for sublayer, state in layer.items():
            yield f"state {sublayer}", {name: (tensor.shape, tensor.dtype) for name, tensor in state.items()}
    add_weight_noise(model)
    supply_required_inputs(model)
    model = model.double().eval()
    length = TINY_MODEL["context_length"] if model.max_length is not None else 3 * TINY_MODEL["context_length"]
    tokens = subject.tokens(2, length)
    yield from _forward_results(model, tokens, "eval")
    yield from _forward_results(model.train(), tokens, "training")
    meta_model = build_on_meta(spec)
    supply_required_inputs(meta_model)
    yield "operations", _operations(meta_model, tokens)


def _forward_results(model: Architecture, tokens: Tensor, mode: str) -> Iterator[tuple[str, Tensor]]:
    """Yield logits, loss and auxiliary outputs, and the buffers after `after_optimizer_step` in training mode."""
    torch.manual_seed(0)
    auxiliary = AuxiliaryOutputs()
    capture = ["attention"] if mode == "eval" else []
    with torch.no_grad():
        yield f"{mode} logits", model(tokens, auxiliary=auxiliary, capture=capture)[0]
        torch.manual_seed(0)
        yield f"{mode} loss", model(tokens, tokens)[1]
    for output in ("losses", "metrics", "captures"):
        yield from ((f"{mode} {output} {name}", tensor) for name, tensor in getattr(auxiliary, output).items())
    if mode == "training":
        _call_after_optimizer_step(model, auxiliary.metrics)
        yield from ((f"updated {name}", buffer.clone()) for name, buffer in model.named_buffers())


def _call_after_optimizer_step(model: Architecture, metrics: Mapping[str, Tensor]) -> None:
    """Pass each sublayer the metrics that it returned, as the trainer does after an optimizer step."""
    for path, module in model.named_modules():
        if isinstance(module, Sublayer):
            prefix = f"{path}."
            with torch.no_grad():
                module.after_optimizer_step(
                    {name.removeprefix(prefix): value for name, value in metrics.items() if name.startswith(prefix)}
                )


class _OperationRecorder(TorchDispatchMode):
    """A recorder of operations with the shapes of their tensor arguments."""

    def __init__(self) -> None:
        super().__init__()
        self.operations: list[tuple[str, list[tuple[int, ...]]]] = []

    def __torch_dispatch__(
        self,
        func: Callable[..., Any],
        types: object,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> object:
        shapes = [tuple(leaf.shape) for leaf in tree_leaves(args) if isinstance(leaf, Tensor)]
        self.operations.append((str(func), shapes))
        return func(*args, **(kwargs or {}))


def _operations(meta_model: Architecture, tokens: Tensor) -> list[tuple[str, list[tuple[int, ...]]]]:
    """Return the operations of a forward pass. An option may compute the same result in another way."""
    model = meta_model.to_empty(device="cpu")
    with torch.no_grad():
        for tensor in (*model.parameters(), *model.buffers()):
            tensor.zero_()
        with _OperationRecorder() as recorder:
            model.eval()(tokens)
    return recorder.operations
