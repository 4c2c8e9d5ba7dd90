"""State tracking: the running product of permutations, of which parity is the smallest case."""

from __future__ import annotations

import itertools
from collections.abc import Mapping

import numpy as np
from pydantic import Field

import gptzoo

_FIRST = 1  # token of the identity


class StateTracking(gptzoo.SampleCorpus):
    """State tracking: each token is a permutation of a few objects, and the product of all so far is asked for.

    Two objects have two permutations, so that this is parity. The permutations of five objects form a group that is not
    solvable, whose word problem constant-depth models cannot solve at every length. The first position, where the token
    is its own answer, does not ask. `accuracy_at_end` is the accuracy at the last position, after all permutations.
    """

    name = "state_tracking"
    paper = (
        "Merrill et al. 2024, The Illusion of State in State-Space Models, arXiv:2404.08819; Grazzi et al. 2024, "
        "Unlocking State-Tracking in Linear RNNs Through Negative Eigenvalues, arXiv:2411.12537"
    )
    metric_names = ("accuracy", "accuracy_at_end")

    class Config(gptzoo.SampleCorpus.Config):
        length: int = Field(default=32, ge=2)
        """Tokens in a sample."""
        n_objects: int = Field(default=2, ge=2, le=6)
        """Number of objects that are permuted. 2: parity; 3: the group S3; 5: S5, with 120 permutations."""

    config: Config

    def __init__(self, config: Config):
        super().__init__(config)
        permutations = list(itertools.permutations(range(config.n_objects)))
        index = {permutation: number for number, permutation in enumerate(permutations)}
        self.product = np.array(
            [[index[tuple(a[i] for i in b)] for b in permutations] for a in permutations], dtype=np.int64
        )
        """The number of the permutation that first applies `b` and then `a`, (number of a, number of b)."""

    @property
    def vocab_size(self) -> int:
        return _FIRST + len(self.product)

    @property
    def sample_length(self) -> int:
        return self.config.length

    @property
    def chance(self) -> Mapping[str, float]:
        return dict.fromkeys(self.metric_names, 1 / len(self.product))

    def generate(self, draws: gptzoo.Draws) -> gptzoo.Sample:
        factors = draws.below(len(self.product), self.config.length)
        states = list(itertools.accumulate(factors.tolist(), lambda state, factor: int(self.product[state, factor])))
        return gptzoo.Sample.asking(
            _FIRST + factors, np.arange(1, self.config.length), _FIRST + np.array(states[1:], dtype=np.int64)
        )

    def hits(self, sample: gptzoo.Sample, predictions: np.ndarray) -> Mapping[str, tuple[int, int]]:
        at_end = int(predictions[-1] == sample.targets[-1])
        return {**super().hits(sample, predictions), "accuracy_at_end": (at_end, 1)}
