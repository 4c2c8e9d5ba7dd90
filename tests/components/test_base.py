"""The base classes of components: missing methods, auxiliary outputs and documentation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from support import small, tokens_of

import gptzoo
from gptzoo import (
    Activation,
    Architecture,
    Attention,
    FeedForward,
    ForwardContext,
    Norm,
    NormLayer,
    Part,
    Positional,
    SublayerOutput,
    registry,
)


def test_every_kind_of_part_is_a_torch_module() -> None:
    bases = (Activation, Architecture, Attention, FeedForward, Norm, NormLayer, Positional)
    assert [base.kind for base in bases] == [
        *("activation", "architecture", "attention", "ffn", "norm", "norm_layer", "positional")
    ]
    assert all(issubclass(base, Part) and issubclass(base, torch.nn.Module) for base in bases)


@pytest.mark.parametrize("base", [Attention, FeedForward, Norm])
def test_a_component_without_forward_is_named_in_the_error(base: type[Part]) -> None:
    class Forgot(base):  # type: ignore[misc, valid-type]
        """Does nothing."""

        name = "forgot"

    spec = gptzoo.load_model_spec(small())
    part = Forgot(spec.norm, spec.dims, ["one"]) if base is Norm else Forgot(Forgot.Config(), spec.dims)
    with pytest.raises(TypeError, match="Forgot does not implement forward"):
        part(torch.zeros(1, 2, 32), {} if base is Norm else None)


def test_the_default_auxiliary_outputs_are_never_modified() -> None:
    model = gptzoo.build(small())
    model(tokens_of(model, 1, 4), capture=["attention"])
    assert SublayerOutput(torch.zeros(1))[1:] == ({}, {}, {})


def test_the_context_caches_the_bias_among_new_tokens() -> None:
    class Distance(Positional):
        """The distance as the bias."""

        name = "distance"

        def bias(self, q_pos: torch.Tensor, k_pos: torch.Tensor) -> torch.Tensor:
            return (q_pos[:, None, :, None] - k_pos[:, None, None, :]).float()

    positions, at_hand = torch.tensor([[3, 4]]), torch.zeros(1, 1, 2, 2)
    context = ForwardContext(positions, Distance(Distance.Config(), None), self_bias=at_hand)
    assert context.bias(positions) is at_hand
    bias = context.bias(torch.tensor([[0, 1, 2]]))
    assert bias is not None
    assert bias.tolist() == [[[[3, 2, 1], [4, 3, 2]]]]


def test_every_built_in_component_has_a_docstring_and_a_paper() -> None:
    parts = [
        component
        for kind in registry.current().kinds
        for component in registry.current().of_kind(kind).values()
        if issubclass(component, Part) and registry.current().origin(component).plugin == "builtin"
    ]
    assert len(parts) >= 16
    for part in parts:
        assert part.__doc__, part
        assert part.__doc__.split("\n")[0].endswith("."), part
        assert part.paper, part


@pytest.mark.parametrize(
    "use",
    [
        lambda output: output + 1,
        lambda output: torch.ones(2, 3) * output,
        lambda output: torch.ones(2, 2) @ output,
        lambda output: -output,
        lambda output: output**2,
        lambda output: torch.relu(output),
        lambda output: torch.nn.functional.silu(output),
        lambda output: torch.nn.Linear(3, 3)(output),
        lambda output: torch.cat([output, torch.ones(2, 3)]),
        lambda output: output.mean(),
    ],
    ids=["add", "mul", "matmul", "neg", "pow", "relu", "silu", "linear", "cat", "mean"],
)
def test_an_output_used_as_a_tensor_is_refused_with_the_lines_to_write(use: Callable[[Any], object]) -> None:
    with pytest.raises((TypeError, AttributeError), match=r"its tensor is `y`[\s\S]*output = super\(\).forward"):
        use(SublayerOutput(torch.ones(2, 3)))


def test_an_output_can_be_made_in_a_compiled_function() -> None:
    @torch.compile(fullgraph=True, backend="eager")
    def double(x: torch.Tensor) -> SublayerOutput:
        output = SublayerOutput(2 * x, losses={"l": x.sum()})
        return output._replace(y=output.y + 1)

    assert torch.equal(double(torch.ones(2)).y, torch.full((2,), 3.0))
