"""T5's relative position bias: a learned score bias for each bucket of distances and each head."""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from pydantic import PositiveInt
from torch import Tensor, nn

import gptzoo


class T5(gptzoo.Positional):
    """T5's relative position bias: one learned number per head and distance bucket, added to the attention scores.

    Half of the buckets hold one distance each. The others grow geometrically up to max_distance, and the last one holds
    all larger distances. One table serves all layers that name this config.
    """

    name = "t5"
    paper = "Raffel et al. 2020, Exploring the Limits of Transfer Learning (T5), arXiv:1910.10683"

    class Config(gptzoo.Positional.Config):
        n_buckets: PositiveInt = 32
        """Total number of distance buckets: at least 2, or with `bidirectional` an even number of at least 4, half for
        each direction."""
        max_distance: PositiveInt = 128
        """Distance in tokens from which on all distances share the last bucket."""
        bidirectional: bool = False
        """Use separate buckets for keys after the query, as in encoders. False: a key after the query has distance
        0."""

        def problems(self, dims: gptzoo.Dims) -> Iterator[tuple[str, str]]:
            per_direction = self.n_buckets // 2 if self.bidirectional else self.n_buckets
            if self.bidirectional and self.n_buckets % 2:
                yield (
                    "n_buckets",
                    f"should be even, half of the buckets for each direction, not {self.n_buckets}",
                )
            elif per_direction < 2:
                yield "n_buckets", "should be at least 2 for each direction"
            elif self.max_distance <= per_direction // 2:
                yield (
                    "max_distance",
                    f"should be above {per_direction // 2}, the number of distances with a bucket of their own, "
                    f"not {self.max_distance}",
                )

    config: Config
    bucket_of: Tensor

    def __init__(self, config: Config, dims: gptzoo.Dims, rotary_dims: frozenset[int] = frozenset()):
        super().__init__(config, dims, rotary_dims)
        self.table = nn.Embedding(config.n_buckets, dims.n_heads)
        self.min_distance = -config.max_distance if config.bidirectional else 0
        # A table of buckets is the same on every device, whereas a float32 logarithm may round differently at the edge
        # between two buckets (distance 16, 32, 64).
        n_distances = config.max_distance + 1 - self.min_distance
        self.register_buffer("bucket_of", torch.empty(n_distances, dtype=torch.int64), persistent=False)

    def initialise(self, rng: gptzoo.Rng) -> None:
        n_buckets, max_distance = self.config.n_buckets, self.config.max_distance
        per_direction = n_buckets // 2 if self.config.bidirectional else n_buckets
        before = [bucket(distance, per_direction, max_distance) for distance in range(max_distance + 1)]
        after = [per_direction + index for index in before[:0:-1]] if self.config.bidirectional else []
        self.bucket_of.copy_(torch.tensor(after + before))

    def bias(self, q_pos: Tensor, k_pos: Tensor) -> Tensor:
        bias_of_distance = self.table(self.bucket_of)  # (n_distances, H)
        distance = q_pos[:, :, None] - k_pos[:, None, :]  # (B|1, T, S)
        index = distance.clamp(self.min_distance, self.config.max_distance) - self.min_distance
        # index_select is faster on a CPU, but on CUDA it sums gradients in an order that varies from run to run.
        return F.embedding(index, bias_of_distance).permute(0, 3, 1, 2)  # (B|1, H, T, S)


def bucket(distance: int, n_buckets: int, max_distance: int) -> int:
    """Return the bucket of a distance >= 0 in one direction, computed in integers to avoid rounding at the edges.

    The first e = n_buckets // 2 buckets hold one distance each. From distance e on, the bucket is
    e + floor((n_buckets - e) log(distance / e) / log(max_distance / e)).
    """
    n_exact = n_buckets // 2
    if distance < n_exact:
        return distance
    n_log = n_buckets - n_exact
    edges_passed = (distance**n_log * n_exact**j >= max_distance**j * n_exact**n_log for j in range(1, n_log))
    return n_exact + sum(edges_passed)
