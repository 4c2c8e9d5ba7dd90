"""The model graph: built-in and foreign norm schemes, the order of modules, and configs by layer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
from support import admit, small
from torch import Tensor, nn

import gptzoo
from gptzoo.components.norm import Norm, PreNorm
from gptzoo.components.positional import Positional
from gptzoo.inspection.model_graph import BlockGroup, ModuleNode, build_model_graph, group_by_config, positional_methods
from gptzoo.inspection.norm_trace import Operation

Sublayers = Mapping[str, Callable[[Tensor], Tensor]]


def blocks_of(**changes: Any) -> BlockGroup:
    (blocks,) = (
        row for row in build_model_graph(gptzoo.load_model_spec(small(**changes))) if isinstance(row, BlockGroup)
    )
    return blocks


def names_and_inputs(operations: tuple[Operation, ...]) -> list[tuple[str, tuple[int, ...]]]:
    return [(operation.name, operation.inputs) for operation in operations]


def test_pre_norm_normalises_the_input_of_a_sublayer() -> None:
    assert names_and_inputs(blocks_of(norm="pre_ln").operations) == [
        ("norm_layer", (-1,)),
        ("attention", (0,)),
        ("add", (-1, 1)),
        ("norm_layer", (2,)),
        ("ffn", (3,)),
        ("add", (2, 4)),
    ]


def test_post_norm_normalises_the_sum() -> None:
    assert names_and_inputs(blocks_of(norm="post_ln").operations) == [
        ("attention", (-1,)),
        ("add", (-1, 0)),
        ("norm_layer", (1,)),
        ("ffn", (2,)),
        ("add", (2, 3)),
        ("norm_layer", (4,)),
    ]


class Parallel(PreNorm):
    """Both sublayers read the same norm, and one sum is computed in place."""

    name = "parallel"

    def forward(self, x: Tensor, sublayers: Sublayers) -> Tensor:
        normed = self.layers["attention"](x)
        x = x + sublayers["attention"](normed)
        x += sublayers["ffn"](normed)
        return x


class Nested(nn.Module):
    def __init__(self, layer: Any):
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x)


class Wide(Norm):
    """Expands the residual stream to two lanes before the first block, as hyper-connections do."""

    name = "wide"

    @classmethod
    def entry(cls, config: Any, dims: Any) -> nn.Module:
        return Lanes()

    def __init__(self, config: Any, dims: Any, names: Any):
        super().__init__(config, dims, names)
        self.layers = nn.ModuleDict({name: Nested(layer) for name, layer in self.layers.items()})

    def forward(self, x: Tensor, sublayers: Sublayers) -> Tensor:
        assert x.shape[-2] == 2
        for name, sublayer in sublayers.items():
            x = x + sublayer(self.layers[name](x.sum(-2)))[..., None, :]
        return x


class Lanes(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.stack([x, x], dim=-2)


@pytest.mark.usefixtures("fresh_registry")
def test_a_norm_scheme_from_a_plugin_is_traced() -> None:
    admit(Parallel)
    assert names_and_inputs(blocks_of(norm="parallel").operations) == [
        ("norm_layer", (-1,)),
        ("attention", (0,)),
        ("add", (-1, 1)),
        ("ffn", (0,)),
        ("add", (2, 3)),
    ]


@pytest.mark.usefixtures("fresh_registry")
def test_a_norm_scheme_that_widens_the_residual_stream_is_traced() -> None:
    admit(Wide)
    names = [operation.name for operation in blocks_of(norm="wide").operations]
    assert names == ["sum", "norm_layer", "attention", "getitem", "add", "sum", "norm_layer", "ffn", "getitem", "add"]


def test_the_graph_of_every_spec_has_all_sublayers_and_layers(any_spec: dict[str, Any]) -> None:
    spec = gptzoo.load_model_spec(any_spec)
    nodes = build_model_graph(spec)
    (blocks,) = (node for node in nodes if isinstance(node, BlockGroup))
    assert blocks.n_layers == spec.n_layers
    assert {"attention", "ffn"} <= {operation.name for operation in blocks.operations}
    for name in ("attention", "ffn"):
        by_layer = {layer: group.config for group in blocks.sublayers[name] for layer in group.layers}
        assert [by_layer[layer] for layer in range(spec.n_layers)] == spec.per_layer(name)
    assert isinstance(nodes[0], ModuleNode)
    assert isinstance(nodes[-1], ModuleNode)
    assert (nodes[0].name, nodes[-1].name) == ("embed", "head")


def test_modules_are_in_the_order_of_the_forward_pass() -> None:
    nodes = build_model_graph(gptzoo.load_model_spec(small(dropout=0.1, positional=["learned", "rope"])))
    names = ["blocks" if isinstance(node, BlockGroup) else node.name for node in nodes]
    assert names == ["embed", "positionals", "embed_dropout", "blocks", "exit", "head"]
    assert [node.config.type for node in nodes if isinstance(node, ModuleNode) and node.config] == [
        "learned",
        "layernorm",
    ]


def test_modules_that_do_nothing_are_omitted() -> None:
    nodes = build_model_graph(gptzoo.load_model_spec(small(positional="none", norm="post_ln")))
    assert ["blocks" if isinstance(node, BlockGroup) else node.name for node in nodes] == ["embed", "blocks", "head"]


def test_layers_with_equal_configs_are_grouped() -> None:
    spec = gptzoo.load_model_spec(small(n_layers=5, attention=["naive", {"type": "sdpa", "window": 4}]))
    groups = [(group.config.type, group.layers) for group in group_by_config(spec.per_layer("attention"))]
    assert groups == [("naive", (0, 2, 4)), ("sdpa", (1, 3))]


class Both(Positional):
    """Overrides two methods."""

    name = "both"

    def embed(self, x: Tensor, positions: Tensor) -> Tensor:
        return x

    def bias(self, q_pos: Tensor, k_pos: Tensor) -> None:
        return None


@pytest.mark.parametrize(
    ("name", "methods"), [("learned", ("embed",)), ("rope", ("rotate",)), ("none", ()), ("both", ("embed", "bias"))]
)
@pytest.mark.usefixtures("fresh_registry")
def test_positional_methods_are_those_that_a_positional_overrides(name: str, methods: tuple[str, ...]) -> None:
    admit(Both)
    (positional,) = {gptzoo.load_model_spec(small(positional=name)).positional}
    assert positional_methods(positional) == methods
