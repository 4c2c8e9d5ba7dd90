"""The structure of a model, traced by running it on the meta device.

The graph follows from the calls that the model makes, so it is right for any architecture, norm scheme or positional,
also for those from plugins.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from gptzoo.component import Config
from gptzoo.components.context import ForwardContext
from gptzoo.components.part import Part
from gptzoo.components.positional import Positional
from gptzoo.components.sublayer import SublayerOutput
from gptzoo.inspection.norm_trace import Operation, trace_norm
from gptzoo.model.block import Block
from gptzoo.model.build import build_on_meta
from gptzoo.model.shapes.eager_references import eager_references
from gptzoo.spec.model import ModelSpec

POSITIONAL_METHODS = ("embed", "rotate", "bias")


@dataclass(frozen=True)
class ModuleNode:
    """A module of the architecture outside the blocks."""

    name: str  # its attribute name in the architecture
    config: Config | None  # of a component; None for a torch layer
    n_parameters: int
    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)  # of its parameters, by name


@dataclass(frozen=True)
class ConfigGroup:
    """A config and the layers that use it."""

    config: Config
    layers: tuple[int, ...]
    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)  # of the parameters in one layer, by name


@dataclass(frozen=True)
class BlockGroup:
    """Successive blocks with the same norm scheme and sublayer names. The configs may differ from layer to layer."""

    n_layers: int
    norm: Config
    operations: tuple[Operation, ...]
    sublayers: dict[str, tuple[ConfigGroup, ...]]  # by sublayer name
    positionals: tuple[ConfigGroup, ...]


@eager_references()
def build_model_graph(spec: ModelSpec) -> list[ModuleNode | BlockGroup]:
    """Return the modules and blocks of a model in the order in which the forward pass calls them."""
    model = build_on_meta(spec)
    calls: list[_Call] = []
    with contextlib.ExitStack() as stack, torch.no_grad():
        for name, module in _traced_modules(model):
            stack.enter_context(_record_calls(name, module, calls))
        model(**model.example_inputs(1, 1, device="meta"))

    nodes: list[ModuleNode | BlockGroup] = []
    for _, group in itertools.groupby(calls, key=_block_structure):
        successive = list(group)
        if isinstance(successive[0].module, Block):
            nodes.append(_block_group(successive))
        else:
            nodes += [_module_node(call) for call in successive]
    return nodes


def positional_methods(positional: Config) -> tuple[str, ...]:
    """Return those of `embed`, `rotate` and `bias` that a positional overrides."""
    component = positional.component
    return tuple(name for name in POSITIONAL_METHODS if getattr(component, name) is not getattr(Positional, name))


def group_by_config(configs: Iterable[Config]) -> tuple[ConfigGroup, ...]:
    """Group the layers 0, 1, … by equal config, in the order of first use."""
    groups: list[tuple[Config, list[int]]] = []
    for layer, config in enumerate(configs):
        layers = next((layers for known, layers in groups if known == config), None)
        if layers is None:
            groups.append((config, [layer]))
        else:
            layers.append(layer)
    return tuple(ConfigGroup(config, tuple(layers)) for config, layers in groups)


class _Call(NamedTuple):
    name: str
    module: Any  # a Block, or another module of the architecture
    x: Tensor  # the first argument
    context: ForwardContext | None = None  # the second argument of a block


def _traced_modules(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Yield every block, and the outermost other modules that change their input, by name."""
    for name, child in model.named_children():
        if isinstance(child, Block):
            yield name, child
        elif isinstance(child, Positional):
            if "embed" in positional_methods(child.config):
                yield name, child
        elif isinstance(child, nn.ModuleList | nn.ModuleDict) or any(isinstance(m, Block) for m in child.modules()):
            is_container = isinstance(child, nn.ModuleList | nn.ModuleDict)
            for inner_name, module in _traced_modules(child):
                yield name if is_container else f"{name}.{inner_name}", module
        elif not isinstance(child, nn.Identity) and not (isinstance(child, nn.Dropout) and child.p == 0):
            yield name, child


@contextlib.contextmanager
def _record_calls(name: str, module: nn.Module, calls: list[_Call]) -> Iterator[None]:
    """Record the calls of a module. Blocks are not executed, so a deep model costs no more than a shallow one."""
    method_name = "embed" if isinstance(module, Positional) else "forward"
    method = getattr(module, method_name)

    def record_block(x: Tensor, context: ForwardContext, *args: object, **kwargs: object) -> SublayerOutput:
        calls.append(_Call(name, module, x, context))
        return SublayerOutput(x)

    def record_and_call(x: Tensor, *args: object, **kwargs: object) -> object:
        calls.append(_Call(name, module, x))
        return method(x, *args, **kwargs)

    vars(module)[method_name] = record_block if isinstance(module, Block) else record_and_call
    try:
        yield
    finally:
        del vars(module)[method_name]


def _module_node(call: _Call) -> ModuleNode:
    config = call.module.config if isinstance(call.module, Part) else None
    n_parameters = sum(parameter.numel() for parameter in call.module.parameters())
    return ModuleNode(call.name, config, n_parameters, _shapes(call.module))


def _shapes(module: nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(parameter.shape) for name, parameter in module.named_parameters()}


def _block_structure(call: _Call) -> tuple[Sequence[str], Config] | None:
    """Return a key that is equal for blocks of one group; None for a module that is not a block."""
    return (call.module.names, call.module.norm.config) if isinstance(call.module, Block) else None


def _sublayer_groups(sublayers: Sequence[Part]) -> tuple[ConfigGroup, ...]:
    groups = group_by_config(sublayer.config for sublayer in sublayers)
    return tuple(replace(group, shapes=_shapes(sublayers[group.layers[0]])) for group in groups)


def _block_group(calls: Sequence[_Call]) -> BlockGroup:
    first = calls[0].module
    return BlockGroup(
        n_layers=len(calls),
        norm=first.norm.config,
        operations=trace_norm(first.norm, first.names, calls[0].x),
        sublayers={name: _sublayer_groups([getattr(call.module, name) for call in calls]) for name in first.names},
        positionals=group_by_config(call.context.positional.config for call in calls if call.context is not None),
    )
