"""Scopes of a profile: every call of a component, and of the other parts of a training step, gets a name.

The methods of the modules are wrapped on the instances, so components need no code for this. A scope is a
`record_function` of torch, which is an event of the trace. Nested scopes belong to the innermost component.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from torch import nn
from torch.profiler import record_function

from gptzoo.components.part import Part
from gptzoo.model.architecture import Architecture
from gptzoo.model.block import Block
from gptzoo.training.trainer import Trainer

COMPILED_BLOCK = "compiled block"
_OF_THE_CLASS = object()  # a method that the instance did not have itself
_NOT_PART_OF_A_STEP = frozenset(vars(Part))  # methods that every component has, such as `initialise`


@dataclass(frozen=True)
class Cost:
    """The key of one row of a profile."""

    component: str  # KIND:NAME as in the registry, or a name such as "head"
    phase: str  # forward, backward, optimizer, data, synchronisation, idle or other


@dataclass
class Scopes:
    """The scopes that are installed, and the objects whose methods they wrap."""

    costs: dict[str, Cost] = field(default_factory=dict)
    """The row of each scope, by the name of its events."""
    _wrapped: list[tuple[Any, str, object]] = field(default_factory=list)

    def wrap(self, owner: object, method: str, label: str, cost: Cost) -> None:
        """Replace a method of one object by a function that calls it inside a scope."""
        original: Callable[..., Any] = getattr(owner, method)

        @functools.wraps(original)
        def call_in_scope(*args: object, **kwargs: object) -> object:
            with record_function(label):
                return original(*args, **kwargs)

        self.costs[label] = cost
        self._wrapped.append((owner, method, vars(owner).get(method, _OF_THE_CLASS)))
        vars(owner)[method] = call_in_scope

    def remove(self) -> None:
        """Restore all methods."""
        while self._wrapped:
            owner, method, before = self._wrapped.pop()
            if before is _OF_THE_CLASS:
                del vars(owner)[method]
            else:
                vars(owner)[method] = before


@contextlib.contextmanager
def installed_scopes(trainer: Trainer) -> Iterator[Scopes]:
    """Wrap the components of a run's model and the rest of a training step until the block ends."""
    scopes = Scopes()
    try:
        _wrap_model(scopes, trainer.model)
        _wrap_step(scopes, trainer)
        yield scopes
    finally:
        scopes.remove()


def component_name(part: Part) -> str:
    """Return a component as `KIND:NAME`, the form of `gptzoo check`."""
    return f"{part.kind}:{part.name or type(part).__name__}"


def contract_methods(part: Part) -> list[str]:
    """Return the methods that the model may call in a forward pass: `forward`, and those that the kind declares.

    The kind's methods are the public ones of its base class, such as `rotate` of a positional.
    """
    if isinstance(part, Architecture):
        return ["forward"]
    classes = [base for base in type(part).__mro__ if issubclass(base, Part) and base is not Part]
    of_kind = [base for base in classes if base.kind]  # from the component to the base class of its kind
    declared = [base for base in classes if base is of_kind[-1] or not base.kind] if of_kind else classes
    names = {
        name
        for base in declared
        for name, value in vars(base).items()
        if inspect.isfunction(value) and not name.startswith("_") and name not in _NOT_PART_OF_A_STEP
    }
    return sorted(names | {"forward"})


def _wrap_model(scopes: Scopes, model: Architecture) -> None:
    _wrap_part(scopes, model, "model", set())


def _wrap_part(scopes: Scopes, part: Part, path: str, seen: set[nn.Module]) -> None:
    seen.add(part)
    cost = Cost(component_name(part), "forward")
    for method in contract_methods(part):
        suffix = "" if method == "forward" else f".{method}"
        scopes.wrap(part, method, f"{cost.component} [{path}{suffix}]", cost)
    for name, child in part.named_children():
        _wrap_below(scopes, child, f"{path}.{name}", seen, name if isinstance(part, Architecture) else None)


def _wrap_below(scopes: Scopes, module: nn.Module, path: str, seen: set[nn.Module], name: str | None) -> None:
    """Wrap a module below a component.

    `name` is the row of a module that an architecture holds itself. A module inside another component has None, and
    belongs to that component.
    """
    if module in seen:
        return
    if isinstance(module, Part):
        _wrap_part(scopes, module, path, seen)
        return
    seen.add(module)
    if isinstance(module, Block) and module._compiled_call_impl is not None:
        # The compiler fuses the components, and a scope inside would break its graph.
        scopes.wrap(module, "_compiled_call_impl", f"{COMPILED_BLOCK} [{path}]", Cost(COMPILED_BLOCK, "forward"))
    elif isinstance(module, nn.ModuleList | nn.ModuleDict) or any(isinstance(m, Part) for m in module.modules()):
        for child_name, child in module.named_children():
            _wrap_below(scopes, child, f"{path}.{child_name}", seen, name)
    elif name is not None:
        for method in _own_methods(module):
            suffix = "" if method == "forward" else f".{method}"
            scopes.wrap(module, method, f"{name} [{path}{suffix}]", Cost(name, "forward"))


def _own_methods(module: nn.Module) -> list[str]:
    """Return `forward`, and the public methods of classes that are not torch's own, such as `loss` of the head."""
    classes = [base for base in type(module).__mro__ if not base.__module__.startswith(("torch.", "builtins"))]
    names = {
        name
        for base in classes
        for name, value in vars(base).items()
        if inspect.isfunction(value) and not name.startswith("_")
    }
    return sorted(names | {"forward"})


def _wrap_step(scopes: Scopes, trainer: Trainer) -> None:
    """Wrap the parts of a training step outside of the model."""
    step = trainer.train_step
    optimizer = Cost(f"optimizer:{trainer.spec.optimizer.type}", "optimizer")
    clipping = Cost("gradient norm and clipping", "optimizer")
    scopes.wrap(step, "accumulate_gradients", "gradient of a batch", clipping)
    scopes.wrap(step, "clip_gradients", "clip gradients", clipping)
    scopes.wrap(step, "optimizer_step", "optimizer step", optimizer)
    scopes.wrap(step, "zero_grad", "drop gradients", optimizer)
    scopes.wrap(trainer.monitor, "after_optimizer_step", "watch", Cost("watch", "other"))
    scopes.wrap(trainer.monitor, "before_optimizer_step", "watch, before the step", Cost("watch", "other"))
    if trainer.ema is not None:
        scopes.wrap(trainer.ema, "update", "EMA", Cost("EMA", "optimizer"))
