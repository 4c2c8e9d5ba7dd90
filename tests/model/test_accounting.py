"""The costs of a model: parameters, FLOPs, cache and training memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from support import admit, small
from torch import Tensor, nn

import gptzoo
from gptzoo.components.attention import SdpaAttention
from gptzoo.components.ffn import FeedForward
from gptzoo.errors import InputError, SpecError
from gptzoo.model.accounting import ModelCosts, count_parameters, model_costs
from gptzoo.model.build import build_on_meta

CONFIGS = Path(__file__).parents[2] / "configs" / "models"


def costs_of(spec: dict[str, Any], **settings: Any) -> ModelCosts:
    return model_costs(gptzoo.load_model_spec(spec), **settings)


# ---------------------------------------------------------------------- parameters


def test_parameter_counts_add_up_to_the_built_model(any_spec: dict[str, Any]) -> None:
    counted = count_parameters(build_on_meta(gptzoo.load_model_spec(any_spec)))
    assert counted.total == sum(parameter.numel() for parameter in gptzoo.build(any_spec).parameters())
    assert counted.total == sum(counted.by_part.values())
    assert counted.total == counted.embedding + counted.non_embedding


def test_parameters_of_gpt2_by_part() -> None:
    counted = count_parameters(gptzoo.build(CONFIGS / "gpt2.json", device="meta"))
    assert counted.by_part == {
        "embed": 50257 * 768,
        "positional": 1024 * 768,
        "attention": 12 * (768 * 4 * 768 + 4 * 768),
        "ffn": 12 * (2 * 768 * 3072 + 3072 + 768),
        "norm": 25 * 2 * 768,
    }
    assert counted.non_embedding == 124_439_808 - (50257 + 1024) * 768


@pytest.mark.parametrize(
    ("changes", "embedding"),
    [
        ({"positional": "learned"}, 13 * 32 + 16 * 32),
        ({"positional": "rope"}, 13 * 32),
        ({"positional": "rope", "tie_embeddings": False}, 2 * 13 * 32),
        ({"positional": "rope", "architecture": {"type": "decoder", "head_bias": True}}, 13 * 32 + 13),
    ],
)
def test_embedding_is_vocabulary_and_positions(changes: dict[str, Any], embedding: int) -> None:
    assert count_parameters(build_on_meta(gptzoo.load_model_spec(small(**changes)))).embedding == embedding


class Gated(SdpaAttention):
    """A part that nobody declared anything about."""

    name = "gated"

    def __init__(self, config: Any, dims: Any):
        super().__init__(config, dims)
        self.gate = nn.Linear(dims.d_model, dims.d_model, bias=False)


@pytest.mark.usefixtures("fresh_registry")
def test_a_third_party_component_counts_with_everything_it_contains() -> None:
    admit(Gated)
    plain = costs_of(small()).parameters.by_part
    gated = costs_of(small(attention={"type": "gated", "qk_norm": "rmsnorm"})).parameters.by_part
    assert gated["attention"] - plain["attention"] == 2 * (32 * 32 + 2 * 8)
    assert {**gated, "attention": 0} == {**plain, "attention": 0}


# ---------------------------------------------------------------------- cache


@pytest.mark.parametrize("attention", ["naive", "sdpa"])
@pytest.mark.parametrize(("precision", "n_bytes"), [("fp32", 4), ("bf16", 2)])
@pytest.mark.parametrize("n_kv_heads", [4, 2, 1])
def test_a_cached_token_is_a_key_and_a_value_in_every_layer(
    attention: str, precision: Any, n_bytes: int, n_kv_heads: int
) -> None:
    counted = costs_of(small(attention={"type": attention, "n_kv_heads": n_kv_heads}), precision=precision)
    assert counted.kv_cache_bytes_per_token == 2 * 2 * n_kv_heads * 8 * n_bytes


def test_a_window_bounds_the_state_but_not_its_growth_before() -> None:
    full, windowed = costs_of(small()), costs_of(small(attention={"type": "sdpa", "window": 4}))
    assert windowed.kv_cache_bytes_per_token == full.kv_cache_bytes_per_token
    assert windowed.state_bytes < full.state_bytes / 2


def test_state_bytes_are_those_of_allocated_states(any_spec: dict[str, Any]) -> None:
    model = gptzoo.build(any_spec)
    states = model.new_states(1, model.spec.context_length)
    made = sum(tensor.nbytes for layer in states for state in layer.values() for tensor in state.values())
    assert costs_of(any_spec).state_bytes == made > 0


# ---------------------------------------------------------------------- work and memory


def test_every_spec_has_a_dry_run(any_spec: dict[str, Any]) -> None:
    counted = costs_of(any_spec)
    assert counted.not_counted is None
    assert counted.flops_per_token is not None
    assert counted.training_memory is not None
    assert counted.flops_per_token.training > counted.flops_per_token.forward > 0
    assert counted.training_memory.total_bytes > counted.training_memory.weight_bytes


def test_flops_per_token_of_tiny_are_those_of_the_closed_form() -> None:
    spec = gptzoo.load_model_spec(CONFIGS / "tiny.json")
    in_products = 4 * 12 * 128 * 128 + 5000 * 128
    assert model_costs(spec).as_dict()["flops_per_token"] == {
        "forward": 2 * in_products + 4 * 512 * 128 * 4,
        "training": 3 * (2 * in_products + 4 * 512 * 128 * 4),
    }


def test_a_longer_sequence_costs_more_per_token_and_a_larger_batch_does_not() -> None:
    short, long = costs_of(small(), sequence_length=8), costs_of(small(), sequence_length=16, batch_size=3)
    assert short.flops_per_token is not None
    assert long.flops_per_token is not None
    assert long.flops_per_token.forward - short.flops_per_token.forward == 4 * 8 * 32 * 2


def test_training_memory_is_weights_and_optimizer_and_a_peak_that_grows_with_the_batch() -> None:
    one, two = (costs_of(small(), batch_size=size).training_memory for size in (1, 2))
    assert one is not None
    assert two is not None
    n_parameters = costs_of(small()).parameters.total
    assert (one.weight_bytes, one.gradient_bytes, one.optimizer_bytes) == (
        4 * n_parameters,
        4 * n_parameters,
        8 * n_parameters,
    )
    assert two.activation_bytes == pytest.approx(2 * one.activation_bytes, rel=0.05)
    assert one.total_bytes < two.total_bytes


class Sparse(FeedForward):
    """Its work depends on the values of its input, so it cannot run without any."""

    name = "sparse"

    def __init__(self, config: Any, dims: Any):
        super().__init__(config, dims)
        self.scale = nn.Linear(dims.d_model, dims.d_model)

    def forward(self, x: Tensor, step: Any, state: Any = None) -> Tensor:
        rows = x[..., 0].nonzero(as_tuple=True)
        return x.index_put(rows, self.scale(x[rows]))


@pytest.mark.usefixtures("fresh_registry")
def test_a_model_without_a_dry_run_still_has_the_other_costs() -> None:
    admit(Sparse)
    counted = costs_of(small(ffn="sparse"))
    assert counted.parameters.by_part["ffn"] == 2 * (32 * 32 + 32)
    assert counted.flops_per_token is counted.training_memory is None
    assert "nonzero" in str(counted.not_counted)


def test_a_sequence_longer_than_max_length_is_an_error() -> None:
    with pytest.raises(InputError, match="sequence length 17 exceeds the model's maximum of 16"):
        costs_of(small(), sequence_length=17)
    assert costs_of(small(positional="rope"), sequence_length=17).flops_per_token is not None


def test_a_spec_without_vocab_size_is_an_error() -> None:
    with pytest.raises(SpecError, match="vocab_size"):
        costs_of(small(vocab_size=None))


def test_counting_does_not_change_the_random_state() -> None:
    before = torch.get_rng_state()
    costs_of(small(dropout=0.1))
    assert torch.equal(before, torch.get_rng_state())
