"""All that can be seen of a component from outside, to tell whether an option changes any of it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from gptzoo.component import Config
from gptzoo.components.sublayer import AuxiliaryOutputs, Sublayer
from gptzoo.model.build import assemble, build
from gptzoo.testing.properties.kinds import optimizers, processors, schedules
from gptzoo.testing.subject import HOST, PartSubject, Subject, complete, loud

Signature = dict[str, Any]

_BEHAVIOUR = {
    "logits_processor": processors.behaviour,
    "optimizer": optimizers.behaviour,
    "schedule": schedules.behaviour,
}


def signature(subject: Subject, config: Config) -> Signature:
    """What the component with this config is and does, by name of the aspect."""
    if isinstance(subject, PartSubject):
        return dict(_of_part(subject, config))
    return _BEHAVIOUR[subject.kind](config)


def differ(one: Signature, other: Signature) -> bool:
    """Whether any aspect differs, by as little as a bit."""
    return one.keys() != other.keys() or any(not _equal(one[name], other[name]) for name in one)


def _equal(a: Any, b: Any) -> bool:
    if isinstance(a, Tensor) and isinstance(b, Tensor):
        return a.shape == b.shape and a.dtype == b.dtype and torch.equal(a.nan_to_num(), b.nan_to_num())
    return type(a) is type(b) and a == b


def _of_part(subject: PartSubject, config: Config) -> Iterator[tuple[str, Any]]:
    spec = subject.spec(config)
    model: Any = build(spec)
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        yield f"initial {name}", tensor.clone()
    for layer in model.new_states(2, 8, device="meta"):
        for sublayer, kept in layer.items():
            yield f"state {sublayer}", {name: (tensor.shape, tensor.dtype) for name, tensor in kept.items()}
    model = complete(loud(model)).double().eval()
    length = HOST["context_length"] if model.max_length is not None else 3 * HOST["context_length"]
    tokens = subject.tokens(2, length)
    yield from _computed(model, tokens, "eval")
    yield from _computed(model.train(), tokens, "training")
    yield "work", _work(complete(assemble(spec)), tokens)


def _computed(model: Any, tokens: Tensor, mode: str) -> Iterator[tuple[str, Any]]:
    """Logits, loss, what the sublayers emit, and what they learn of it after an update."""
    torch.manual_seed(0)
    seen = AuxiliaryOutputs()
    capture = ["attention"] if mode == "eval" else []
    with torch.no_grad():
        yield f"{mode} logits", model(tokens, auxiliary=seen, capture=capture)[0]
        torch.manual_seed(0)
        yield f"{mode} loss", model(tokens, tokens)[1]
    for what in ("losses", "metrics", "captures"):
        yield from ((f"{mode} {what} {name}", tensor) for name, tensor in getattr(seen, what).items())
    if mode == "training":
        learn(model, seen)
        yield from ((f"learnt {name}", buffer.clone()) for name, buffer in model.named_buffers())


def learn(model: Any, seen: AuxiliaryOutputs) -> None:
    """What the trainer does after an update: hand each sublayer the metrics that it emitted."""
    for path, module in model.named_modules():
        if isinstance(module, Sublayer):
            prefix = f"{path}."
            with torch.no_grad():
                own = {k.removeprefix(prefix): v for k, v in seen.metrics.items() if k.startswith(prefix)}
                module.after_optimizer_step(own)


class _Operations(TorchDispatchMode):
    """Notes each operation and the shapes that it works on."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[Any] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        shapes = [tuple(leaf.shape) for leaf in tree_leaves(args) if isinstance(leaf, Tensor)]
        self.seen.append((str(func), shapes))
        return func(*args, **(kwargs or {}))


def _work(model: Any, tokens: Tensor) -> Any:
    """The operations of a forward pass: an option may be there to make the same result in another way."""
    model.to_empty(device="cpu")
    with torch.no_grad():
        for tensor in (*model.parameters(), *model.buffers()):
            tensor.zero_()
        with _Operations() as operations:
            model.eval()(tokens)
    return operations.seen
