"""T5's buckets and bias compared with transformers, x-transformers and the paper."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from gptzoo_positions.t5 import bucket
from torch import Tensor

import gptzoo

SMALL: dict[str, Any] = {"vocab_size": 13, "context_length": 16, "d_model": 24, "n_layers": 3, "n_heads": 4}


def t5_of(**options: Any) -> Any:
    """Build a T5 bias whose table is far from 0."""
    model = gptzoo.build({**SMALL, "positional": {"type": "t5", **options}})
    torch.nn.init.normal_(model.positionals[0].table.weight, generator=torch.Generator().manual_seed(0))
    return model.positionals[0]


@pytest.fixture(scope="module")
def attention() -> Any:
    return pytest.importorskip("transformers.models.t5.modeling_t5").T5Attention


def positions_from(first: int, last: int) -> Tensor:
    return torch.arange(first, last)[None]


OPTIONS = [
    {},
    {"bidirectional": True},
    {"n_buckets": 64, "max_distance": 256, "bidirectional": True},
    {"n_buckets": 8, "max_distance": 20},
    {"n_buckets": 3, "max_distance": 9},
    {"n_buckets": 6, "max_distance": 16, "bidirectional": True},
]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_buckets_equal_transformers_for_every_distance(attention: Any, options: dict[str, Any]) -> None:
    t5 = t5_of(**options)
    torch.nn.init.zeros_(t5.table.weight)
    t5.table.weight.data[:] = torch.arange(t5.config.n_buckets)[:, None]  # so that the bias is the index of the bucket
    keys = positions_from(0, 1001)
    ours = t5.bias(torch.tensor([[500]]), keys)[0, 0, 0].long()
    theirs = attention._relative_position_bucket(
        keys[0] - 500,
        bidirectional=t5.config.bidirectional,
        num_buckets=t5.config.n_buckets,
        max_distance=t5.config.max_distance,
    )
    assert torch.equal(ours, theirs)
    assert len(ours.unique()) > t5.config.n_buckets // 2


@pytest.mark.parametrize("bidirectional", [False, True])
def test_the_bias_equals_transformers_with_and_without_a_past(attention: Any, bidirectional: bool) -> None:
    config = pytest.importorskip("transformers").T5Config(num_heads=4, d_model=24, d_kv=6, is_decoder=not bidirectional)
    theirs = attention(config, has_relative_attention_bias=True, layer_idx=0)
    t5 = t5_of(bidirectional=bidirectional)
    theirs.relative_attention_bias.weight.data.copy_(t5.table.weight)
    torch.testing.assert_close(t5.bias(positions_from(0, 300), positions_from(0, 300)), theirs.compute_bias(300, 300))
    torch.testing.assert_close(
        t5.bias(positions_from(290, 300), positions_from(0, 300)), theirs.compute_bias(10, 300, None, 290)
    )


@pytest.mark.parametrize("bidirectional", [False, True])
def test_the_bias_equals_x_transformers(bidirectional: bool) -> None:
    module = pytest.importorskip("x_transformers.x_transformers")
    theirs = module.RelativePositionBias(scale=1.0, causal=not bidirectional, heads=4)
    t5 = t5_of(bidirectional=bidirectional)
    theirs.relative_attention_bias.weight.data.copy_(t5.table.weight)
    torch.testing.assert_close(t5.bias(positions_from(0, 300), positions_from(0, 300))[0], theirs(300, 300))


def test_half_of_the_buckets_hold_one_distance_and_the_others_grow_up_to_max_distance() -> None:
    buckets = [bucket(distance, 32, 128) for distance in range(1000)]
    assert buckets[:17] == list(range(17))
    assert [buckets.index(k) for k in (17, 20, 24, 28, 31)] == [19, 27, 46, 77, 113]
    assert buckets == sorted(buckets)
    assert buckets[128:] == [31] * 872


def test_bucket_edges_are_exact() -> None:
    # The edges 8 * 16^(j/8) are integers for even j, where a float logarithm may round down.
    assert [bucket(d, 16, 128) for d in (15, 16, 31, 32, 63, 64)] == [9, 10, 11, 12, 13, 14]


def test_one_table_serves_all_layers_and_the_buckets_are_not_saved() -> None:
    model = gptzoo.build({**SMALL, "positional": "t5"})
    names = [name for name in model.state_dict() if "positional" in name]
    assert names == ["positionals.0.table.weight"]
    assert model.positionals[0].table.weight.shape == (32, 4)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_buckets": 1}, r"\$\.positional\.n_buckets: should be at least 2 for each direction"),
        ({"n_buckets": 2, "bidirectional": True}, r"n_buckets: should be at least 2 for each direction"),
        (
            {"n_buckets": 31, "bidirectional": True},
            r"n_buckets: should be even, half of the buckets for each",
        ),
        ({"max_distance": 16}, r"\$\.positional\.max_distance: should be above 16, the number of distances with"),
        ({"max_distance": 8, "bidirectional": True}, r"max_distance: should be above 8"),
    ],
)
def test_invalid_buckets_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(gptzoo.SpecError, match=message):
        gptzoo.load_model_spec({**SMALL, "positional": {"type": "t5", **options}})
