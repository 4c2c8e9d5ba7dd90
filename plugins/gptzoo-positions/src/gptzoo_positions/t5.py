"""T5's relative position bias: distances in buckets, and a learned number for each bucket and head."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from pydantic import PositiveInt
from torch import Tensor, nn

import gptzoo


class T5(gptzoo.Positional):
    """Adds a learned bias for each head and bucket of distances, fine for near tokens and coarse for far ones.

    Half of the buckets hold one distance each; the others grow geometrically up to max_distance, and the last holds
    all beyond. One table serves all layers that name this config.
    """

    name = "t5"
    paper = "Raffel et al. 2020, Exploring the Limits of Transfer Learning (T5), arXiv:1910.10683"

    class Config(gptzoo.Positional.Config):
        n_buckets: PositiveInt = 32
        """Rows of the table."""
        max_distance: PositiveInt = 128
        """From here on all distances share the last bucket."""
        bidirectional: bool = False
        """For an encoder: half of the buckets are for tokens ahead, which otherwise all count as distance 0."""

        def problems(self, dims: Any) -> Iterator[tuple[str, str]]:
            one_way = self.n_buckets // 2 if self.bidirectional else self.n_buckets
            if self.bidirectional and self.n_buckets % 2:
                yield "n_buckets", f"{self.n_buckets} do not divide into two directions evenly"
            elif one_way < 2:
                yield "n_buckets", "should be at least 2 for each direction"
            elif self.max_distance <= one_way // 2:
                yield (
                    "max_distance",
                    f"should be above {one_way // 2}, the distances that have a bucket of their own, "
                    f"not {self.max_distance}",
                )

    bucket_of: Tensor

    def __init__(self, config: Any, dims: gptzoo.Dims, rotary_dims: frozenset[int] = frozenset()):
        super().__init__(config, dims, rotary_dims)
        self.table = nn.Embedding(config.n_buckets, dims.n_heads)
        self.nearest = -config.max_distance if config.bidirectional else 0
        # The buckets follow from the options. As a table they are the same on every device, where a float32 logarithm
        # on the edge between two buckets (distance 16, 32, 64) need not be.
        n_distances = config.max_distance + 1 - self.nearest
        self.register_buffer("bucket_of", torch.empty(n_distances, dtype=torch.int64), persistent=False)

    def initialise(self, rng: Any) -> None:
        n_buckets, max_distance = self.config.n_buckets, self.config.max_distance
        one_way = n_buckets // 2 if self.config.bidirectional else n_buckets
        behind = [bucket(distance, one_way, max_distance) for distance in range(max_distance + 1)]
        ahead = [one_way + own for own in behind[:0:-1]] if self.config.bidirectional else []
        self.bucket_of.copy_(torch.tensor(ahead + behind))

    def bias(self, q_pos: Tensor, k_pos: Tensor) -> Tensor:
        by_distance = self.table(self.bucket_of)  # (distances, H)
        distance = q_pos[:, :, None] - k_pos[:, None, :]  # (B|1, T, S)
        row = distance.clamp(self.nearest, self.config.max_distance) - self.nearest
        # Not index_select, although it is faster on a CPU: on CUDA its gradients are summed in no fixed order.
        return F.embedding(row, by_distance).permute(0, 3, 1, 2)  # (B|1, H, T, S)


def bucket(distance: int, n_buckets: int, max_distance: int) -> int:
    """The bucket of a distance >= 0 in one direction, in whole numbers, so that no rounding moves an edge.

    With e = n_buckets // 2 exact ones, it is e + floor((n_buckets - e) log(distance / e) / log(max_distance / e)).
    """
    exact = n_buckets // 2
    if distance < exact:
        return distance
    n_log = n_buckets - exact
    passed = (distance**n_log * exact**j >= max_distance**j * exact**n_log for j in range(1, n_log))
    return exact + sum(passed)
