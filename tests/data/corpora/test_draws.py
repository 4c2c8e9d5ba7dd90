"""Random draws: uniform, without replacement, weighted, and the same everywhere."""

from __future__ import annotations

import itertools

import numpy as np
from scipy import stats

from gptzoo.data.corpora.draws import Draws


def test_draws_depend_on_their_parts_only() -> None:
    assert Draws(1, "train", 2).below(100, 6).tolist() == [88, 50, 53, 81, 68, 49]
    assert Draws(1, "train", 3).below(100, 6).tolist() != Draws(1, "train", 2).below(100, 6).tolist()


def test_integers_are_uniform() -> None:
    counts = np.bincount(Draws("uniform").below(7, 70_000), minlength=7)
    assert stats.chisquare(counts).pvalue > 1e-3
    assert {Draws(index).one_below(3) for index in range(50)} == {0, 1, 2}


def test_distinct_integers_are_distinct_and_uniform() -> None:
    drawn = [tuple(Draws(index).distinct(4, 2).tolist()) for index in range(2400)]
    pairs = list(itertools.permutations(range(4), 2))
    assert set(drawn) == set(pairs)
    assert stats.chisquare([drawn.count(pair) for pair in pairs]).pvalue > 1e-3
    assert sorted(Draws(0).permutation(50).tolist()) == list(range(50))


def test_weighted_draws_have_the_probabilities_of_draws_without_replacement() -> None:
    weights = np.array([1.0, 2.0, 5.0])
    drawn = [tuple(Draws(index).distinct_by_weight(weights, 2).tolist()) for index in range(4000)]
    pairs = list(itertools.permutations(range(3), 2))
    expected = [weights[a] / 8 * weights[b] / (8 - weights[a]) * len(drawn) for a, b in pairs]
    assert stats.chisquare([drawn.count(pair) for pair in pairs], expected).pvalue > 1e-3


def test_excluded_integers_are_not_drawn_and_the_others_are_uniform() -> None:
    counts = np.bincount(Draws("excluded").below_without(9, np.array([0, 8, 3, 4]), 50_000), minlength=9)
    assert np.flatnonzero(counts).tolist() == [1, 2, 5, 6, 7]
    assert stats.chisquare(counts[counts > 0]).pvalue > 1e-3


def test_few_of_many_distinct_integers_are_uniform() -> None:
    drawn = np.concatenate([Draws(index).distinct(40, 3) for index in range(4000)])
    assert all(len(set(row)) == 3 for row in drawn.reshape(-1, 3).tolist())
    assert stats.chisquare(np.bincount(drawn, minlength=40)).pvalue > 1e-3
