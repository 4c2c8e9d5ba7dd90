"""How a model is put together, found by watching it run on the meta device: what follows what, what is added to what.

So a norm scheme, a positional or an architecture that nobody here has heard of is drawn as it is.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

from gptzoo.component import Config
from gptzoo.components.part import Part
from gptzoo.components.positional import Positional
from gptzoo.components.sublayer import SublayerOutput
from gptzoo.model.block import Block
from gptzoo.model.build import assemble
from gptzoo.spec.model import ModelSpec

SEAMS = ("embed", "rotate", "bias")


@dataclass(frozen=True)
class Module:
    """A module of the architecture outside of the blocks, by the name that it has there."""

    name: str
    config: Config | None  # of a component; None for a layer of torch
    n_parameters: int


@dataclass(frozen=True)
class Operation:
    """One step of a block. `inputs` are the steps whose results it takes; -1 is the residual stream that came in."""

    name: str  # of a sublayer, of a part's kind, or of a torch function, such as add
    inputs: tuple[int, ...]
    config: Config | None = None  # of a part of the norm scheme


@dataclass(frozen=True)
class Variant:
    """A config, and the layers that have it."""

    config: Config
    layers: tuple[int, ...]


@dataclass(frozen=True)
class Blocks:
    """A run of blocks with one topology; what differs from layer to layer is in the variants of their sublayers."""

    n_layers: int
    norm: Config
    operations: tuple[Operation, ...]
    sublayers: dict[str, tuple[Variant, ...]]
    positionals: tuple[Variant, ...]


def outline(spec: ModelSpec) -> list[Module | Blocks]:
    """The modules and blocks of a model, in the order in which a token passes them."""
    model = assemble(spec)
    calls: list[_Call] = []
    with contextlib.ExitStack() as stack, torch.no_grad():
        for name, module in _watched(model):
            stack.enter_context(_watch(name, module, calls))
        model(**model.example_inputs(1, 1, device="meta"))

    rows: list[Module | Blocks] = []
    for _, group in itertools.groupby(calls, key=_topology):
        passed = list(group)
        if isinstance(passed[0].module, Block):
            rows.append(_blocks(passed))
        else:
            rows += [_module(call) for call in passed]
    return rows


def seams(positional: Config) -> tuple[str, ...]:
    """Which of `embed`, `rotate` and `bias` a positional uses."""
    component = positional.component
    return tuple(seam for seam in SEAMS if getattr(component, seam) is not getattr(Positional, seam))


def variants(configs: Iterable[Config]) -> tuple[Variant, ...]:
    """The distinct configs of successive layers, each with the layers that have it."""
    found: list[tuple[Config, list[int]]] = []
    for layer, config in enumerate(configs):
        layers = next((layers for known, layers in found if known == config), None)
        if layers is None:
            found.append((config, [layer]))
        else:
            layers.append(layer)
    return tuple(Variant(config, tuple(layers)) for config, layers in found)


# ---------------------------------------------------------------------- the model from outside


class _Call(NamedTuple):
    name: str
    module: Any
    x: Tensor  # its first argument
    step: Any = None  # its second, of a block


def _watched(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Every block, and the outermost modules beside them that do anything."""
    for name, child in model.named_children():
        if isinstance(child, Block):
            yield name, child
        elif isinstance(child, Positional):
            if "embed" in seams(child.config):
                yield name, child
        elif isinstance(child, nn.ModuleList | nn.ModuleDict) or any(isinstance(m, Block) for m in child.modules()):
            in_a_list = isinstance(child, nn.ModuleList | nn.ModuleDict)
            yield from ((name if in_a_list else f"{name}.{inner}", module) for inner, module in _watched(child))
        elif not isinstance(child, nn.Identity) and not (isinstance(child, nn.Dropout) and child.p == 0):
            yield name, child


@contextlib.contextmanager
def _watch(name: str, module: nn.Module, calls: list[_Call]) -> Iterator[None]:
    """Note the calls of a module. Blocks are stepped over, so that to watch a deep model costs nothing."""
    method = "embed" if isinstance(module, Positional) else "forward"
    own = getattr(module, method)

    def noted(x: Tensor, *args: Any, **kwargs: Any) -> Any:
        if isinstance(module, Block):
            calls.append(_Call(name, module, x, step=args[0]))
            return SublayerOutput(x)
        calls.append(_Call(name, module, x))
        return own(x, *args, **kwargs)

    vars(module)[method] = noted
    try:
        yield
    finally:
        del vars(module)[method]


def _module(call: _Call) -> Module:
    config = call.module.config if isinstance(call.module, Part) else None
    return Module(call.name, config, sum(parameter.numel() for parameter in call.module.parameters()))


def _topology(call: _Call) -> Any:
    """Equal for successive blocks that can be drawn as one, and for all that is no block."""
    return (call.module.names, call.module.norm.config) if isinstance(call.module, Block) else None


# ---------------------------------------------------------------------- a block from inside


def _blocks(calls: Sequence[_Call]) -> Blocks:
    first = calls[0].module
    return Blocks(
        n_layers=len(calls),
        norm=first.norm.config,
        operations=watch_norm(first.norm, first.names, calls[0].x),
        sublayers={name: variants(getattr(call.module, name).config for call in calls) for name in first.names},
        positionals=variants(call.step.positional.config for call in calls),
    )


def watch_norm(norm: nn.Module, names: Iterable[str], stream: Tensor) -> tuple[Operation, ...]:
    """What a norm scheme does with the residual stream and the sublayers called `names`, in the order it does it."""
    recorder = _Recorder(stream)
    parts = [module for module in norm.modules() if isinstance(module, Part) and module is not norm]
    with contextlib.ExitStack() as stack, torch.no_grad():
        for part in parts:
            vars(part)["forward"] = recorder.noting(part.config.component.kind, part.forward, part.config)
            stack.callback(vars(part).pop, "forward")
        stack.enter_context(recorder)
        norm(stream, {name: recorder.noting(name, torch.empty_like) for name in names})
    return tuple(recorder.operations)


class _Recorder(TorchFunctionMode):
    """Notes the torch functions that are called on tensors descending from `stream`; a part counts as one."""

    def __init__(self, stream: Tensor):
        super().__init__()
        self.operations: list[Operation] = []
        self._origin = {id(stream): -1}  # of a tensor: the operation that made it
        self._kept = [stream]  # a tensor that is freed would leave its id to another one
        self._inside = False

    def noting(self, name: str, function: Callable[..., Any], config: Config | None = None) -> Callable[..., Any]:
        """`function` as one operation, whatever it does inside."""

        def noted(*args: Any, **kwargs: Any) -> Any:
            if self._inside:
                return function(*args, **kwargs)
            self._inside = True
            result = function(*args, **kwargs)
            self._inside = False
            self._note(name, (args, kwargs), result, config)
            return result

        return noted

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if not self._inside:
            name = getattr(func, "__name__", str(func)).strip("_")
            self._note({"radd": "add", "iadd": "add"}.get(name, name), (args, kwargs), result)
        return result

    def _note(self, name: str, arguments: Any, result: Any, config: Config | None = None) -> None:
        made = [value for value in tree_leaves(result) if isinstance(value, Tensor)]
        inputs = [self._origin[id(value)] for value in tree_leaves(arguments) if id(value) in self._origin]
        if made and inputs:
            self._origin |= dict.fromkeys(map(id, made), len(self.operations))
            self._kept += made
            self.operations.append(Operation(name, tuple(dict.fromkeys(inputs)), config))
