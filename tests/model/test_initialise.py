"""Initial values: their scale, their dependence on (seed, name) only, and completeness."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from support import admit, small
from torch import Tensor, nn

import gptzoo
from gptzoo import FeedForward, PluginError
from gptzoo.components.ffn import MLP
from gptzoo.components.sublayer import State

WIDE = small(d_model=128, n_layers=4, vocab_size=200)


class Own(FeedForward):
    """Base class of the networks below: the identity."""

    def forward(self, x: Tensor, step: Any, state: State | None = None) -> Tensor:
        return x


def values_of(spec: dict[str, Any], **options: Any) -> dict[str, Tensor]:
    return dict(gptzoo.build(spec, **options).named_parameters())


@pytest.mark.parametrize("std", [0.02, 0.5])
def test_weights_are_normal_and_smaller_where_they_write_the_residual_stream(std: float) -> None:
    spec = WIDE | {"architecture": {"type": "decoder", "init_std": std}, "ffn": ["mlp", "glu"], "tie_embeddings": False}
    matrices = {name: value for name, value in values_of(spec).items() if value.ndim == 2}
    residual = {name for name in matrices if name.endswith(("attention.out.weight", "ffn.down.weight"))}
    assert len(residual) == 2 * 4
    for name, value in matrices.items():
        expected = std / (2 * 4) ** 0.5 if name in residual else std
        error = 6 * expected / (2 * value.numel()) ** 0.5  # six standard errors of a standard deviation
        assert value.std().item() == pytest.approx(expected, abs=error), name
        assert value.mean().abs() < 6 * expected / value.numel() ** 0.5, name


def test_biases_are_zero_and_norms_one() -> None:
    spec = WIDE | {"architecture": {"type": "decoder", "head_bias": True}, "tie_embeddings": False}
    vectors = {name: value for name, value in values_of(spec).items() if value.ndim == 1}
    assert len(vectors) == 4 * 8 + 2 + 1
    for name, value in vectors.items():
        assert (value == (0 if name.endswith("bias") else 1)).all(), name


def test_values_depend_on_the_seed_and_not_on_torchs_random_state() -> None:
    first = values_of(small(tie_embeddings=False))
    torch.manual_seed(99)
    before = torch.get_rng_state()
    second = values_of(small(tie_embeddings=False))
    assert torch.equal(torch.get_rng_state(), before), "building draws from torch's own generator"
    assert all(torch.equal(second[name], value) for name, value in first.items())
    other = values_of(small(tie_embeddings=False), seed=2)
    assert all(torch.equal(other[name], value) == (value.ndim == 1) for name, value in first.items())


def test_no_two_matrices_have_the_same_values() -> None:
    matrices = [value.flatten()[:64] for value in values_of(small(tie_embeddings=False)).values() if value.ndim == 2]
    assert len({tuple(matrix.tolist()) for matrix in matrices}) == len(matrices)


def test_values_equal_those_of_a_model_built_without_the_meta_device() -> None:
    spec = gptzoo.load_model_spec(small(tie_embeddings=False))
    plain = spec.architecture.build(spec)
    gptzoo.initialise(plain, 1)
    for name, value in gptzoo.build(spec).named_parameters():
        assert torch.equal(plain.get_parameter(name), value), name


def test_values_are_the_same_on_every_device(device: str) -> None:
    here = values_of(small())
    for name, value in values_of(small(), device=device).items():
        assert value.device.type == device
        assert torch.equal(value.cpu(), here[name]), name


@pytest.mark.usefixtures("fresh_registry")
def test_values_do_not_depend_on_the_order_of_construction() -> None:
    class Backwards(MLP):
        """An mlp whose layers are constructed in the opposite order."""

        name = "backwards"

        def __init__(self, config: Any, dims: Any):
            super().__init__(config, dims)
            for child in ("up", "down"):
                self._modules[child] = self._modules.pop(child)

    admit(Backwards)
    usual, backwards = values_of(small()), values_of(small(ffn="backwards"))
    assert list(usual) != list(backwards)
    assert all(torch.equal(backwards[name], value) for name, value in usual.items())


@pytest.mark.parametrize(
    "change",
    [
        {"norm": "post_ln"},
        {"positional": "rope"},
        {"attention": "naive"},
        {"attention": {"type": "sdpa", "n_kv_heads": 1}},
        {"ffn": "glu"},
        {"activation": "relu"},
        {"norm": {"type": "pre_ln", "layer": "rmsnorm"}},
        {"bias": False},
        {"tie_embeddings": False},
        {"context_length": 8},
        {"n_heads": 2},
    ],
    ids=str,
)
def test_variants_with_the_same_seed_have_equal_values_where_name_and_shape_are_equal(change: dict[str, Any]) -> None:
    base, variant = values_of(small()), values_of(small(**change))
    shared = [name for name in base if name in variant and variant[name].shape == base[name].shape]
    assert len(shared) >= 8
    assert all(torch.equal(variant[name], base[name]) for name in shared)


def test_a_deeper_variant_differs_only_in_the_scale_of_layers_that_write_the_residual_stream() -> None:
    base, deeper = values_of(small(n_layers=2)), values_of(small(n_layers=8))
    for name, value in base.items():
        factor = 2.0 if name.endswith(("out.weight", "down.weight")) else 1.0
        torch.testing.assert_close(deeper[name] * factor, value)


@pytest.mark.usefixtures("fresh_registry")
def test_torchs_layers_are_filled_from_the_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    class Convolves(Own):
        """Owns a layer that fills itself from torch's global generator."""

        name = "convolves"

        def __init__(self, config: Any, dims: Any):
            super().__init__(config, dims)
            self.conv = nn.Conv1d(dims.d_model, dims.d_model, 3)

    def seeds_cuda(seed: int) -> None:
        raise AssertionError("building a model reseeds the CUDA generators")

    admit(Convolves)
    monkeypatch.setattr(torch.cuda, "manual_seed_all", seeds_cuda)
    before = torch.get_rng_state()
    first, second = values_of(small(ffn="convolves")), values_of(small(ffn="convolves"))
    assert torch.equal(torch.get_rng_state(), before)
    name = "blocks.0.ffn.conv.weight"
    assert torch.equal(first[name], second[name])
    assert not torch.equal(first[name], first["blocks.1.ffn.conv.weight"])
    assert not torch.equal(first[name], values_of(small(ffn="convolves"), seed=2)[name])


@pytest.mark.usefixtures("fresh_registry")
def test_a_component_fills_its_tensors_from_generators_by_name() -> None:
    class Scaled(Own):
        """Owns a parameter and three buffers."""

        name = "scaled"

        def __init__(self, config: Any, dims: Any):
            super().__init__(config, dims)
            self.scale = nn.Parameter(torch.empty(dims.d_model))
            self.register_buffer("slopes", torch.empty(3), persistent=False)
            self.register_buffer("counts", torch.empty(3, dtype=torch.int64))
            self.register_buffer("mask", torch.empty(3, dtype=torch.uint8))

        def initialise(self, rng: Any) -> None:
            nn.init.normal_(self.scale, generator=rng("scale"))
            self.slopes.copy_(torch.tensor([1.0, 2.0, 3.0]))
            self.counts.zero_()
            self.mask.copy_(torch.tensor([0, 1, 255]))  # each an ordinary value

    admit(Scaled)
    model = gptzoo.build(small(ffn="scaled"))
    one, other = (block.ffn for block in model.blocks)
    assert not torch.equal(one.scale, other.scale)
    assert torch.equal(one.scale, values_of(small(ffn="scaled"))["blocks.0.ffn.scale"])
    assert one.slopes.tolist() == [1, 2, 3]
    assert "blocks.0.ffn.slopes" not in model.state_dict()


# ---------------------------------------------------------------------- what is refused, by name


class ForgetsParameter(Own):
    """Leaves a parameter unfilled whose values its constructor computes, which the meta device loses."""

    name = "forgets_parameter"

    def __init__(self, config: Any, dims: Any):
        super().__init__(config, dims)
        self.scale = nn.Parameter(torch.ones(dims.d_model))


class ForgetsBuffer(Own):
    """Leaves a buffer unfilled that no state dict holds."""

    name = "forgets_buffer"

    def __init__(self, config: Any, dims: Any):
        super().__init__(config, dims)
        self.register_buffer("slopes", torch.ones(4), persistent=False)


class ForgetsIntegers(Own):
    """Leaves a buffer of integers unfilled."""

    name = "forgets_integers"

    def __init__(self, config: Any, dims: Any):
        super().__init__(config, dims)
        self.register_buffer("table", torch.arange(4))


class ForgetsMask(Own):
    """Leaves a mask unfilled, as a causal mask is often written. A boolean has no unusual value."""

    name = "forgets_mask"

    def __init__(self, config: Any, dims: Any):
        super().__init__(config, dims)
        self.register_buffer("mask", torch.ones(4, 4, dtype=torch.bool).tril(), persistent=False)


class ForgetsBytes(Own):
    """Leaves a buffer of bytes unfilled."""

    name = "forgets_bytes"

    def __init__(self, config: Any, dims: Any):
        super().__init__(config, dims)
        self.register_buffer("codes", torch.arange(4, dtype=torch.uint8))


class FillsHalf(Own):
    """Fills a part of its parameter."""

    name = "fills_half"

    def __init__(self, config: Any, dims: Any):
        super().__init__(config, dims)
        self.scale = nn.Parameter(torch.empty(4))

    def initialise(self, rng: Any) -> None:
        self.scale[:2] = 1


class HelperForgets(Own):
    """Has a helper module that is not a component and does not fill itself."""

    name = "helper_forgets"

    class Helper(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.gain = nn.Parameter(torch.ones(1))

    def __init__(self, config: Any, dims: Any):
        super().__init__(config, dims)
        self.helper = self.Helper()


class PlainTensor(Own):
    """Holds a tensor as an attribute."""

    name = "plain_tensor"

    def __init__(self, config: Any, dims: Any):
        super().__init__(config, dims)
        self.slopes = torch.ones(4)


class ListOfTensors(Own):
    """Holds tensors in a list in a dict."""

    name = "list_of_tensors"

    def __init__(self, config: Any, dims: Any):
        super().__init__(config, dims)
        self.slopes = {"all": [torch.ones(4)]}


class SharesParameter(Own):
    """Two layers that share a weight, which leaving the meta device would separate."""

    name = "shares_parameter"

    def __init__(self, config: Any, dims: Any):
        super().__init__(config, dims)
        self.one = nn.Linear(dims.d_model, dims.d_model)
        self.other = nn.Linear(dims.d_model, dims.d_model)
        self.other.weight = self.one.weight


@pytest.mark.usefixtures("fresh_registry")
@pytest.mark.parametrize(
    ("component", "message"),
    [
        (ForgetsParameter, "blocks.0.ffn.scale, blocks.1.ffn.scale: not initialised"),
        (ForgetsBuffer, "blocks.0.ffn.slopes, blocks.1.ffn.slopes: not initialised"),
        (ForgetsIntegers, "blocks.0.ffn.table, blocks.1.ffn.table: not initialised"),
        (ForgetsMask, "blocks.0.ffn.mask, blocks.1.ffn.mask: not initialised"),
        (ForgetsBytes, "blocks.0.ffn.codes, blocks.1.ffn.codes: not initialised"),
        (FillsHalf, "blocks.0.ffn.scale, blocks.1.ffn.scale: not initialised"),
        (HelperForgets, "blocks.0.ffn.helper.gain, blocks.1.ffn.helper.gain: not initialised"),
        (PlainTensor, "blocks.0.ffn.slopes, blocks.1.ffn.slopes: tensors as plain attributes"),
        (ListOfTensors, "blocks.0.ffn.slopes, blocks.1.ffn.slopes: tensors as plain attributes"),
        (SharesParameter, "blocks.0.ffn.one.weight and blocks.0.ffn.other.weight"),
    ],
)
def test_tensors_that_stay_unfilled_are_errors(component: Any, message: str) -> None:
    admit(component)
    with pytest.raises(PluginError, match=message):
        gptzoo.build(small(ffn=component.name))
