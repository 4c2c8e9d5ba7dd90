"""Pareto fronts of loss against cost."""

from __future__ import annotations

import dataclasses

from hypothesis import given
from hypothesis import strategies as st
from outcomes import outcome, variant

from gptzoo.ablation.statistics.analyse import analyse
from gptzoo.ablation.statistics.pareto import pareto_front, seconds_per_token

FEW = st.integers(0, 4).map(float)


@given(st.lists(st.tuples(FEW, FEW), min_size=1, max_size=9))
def test_no_variant_dominates_one_on_the_front(pairs: list[tuple[float, float]]) -> None:
    losses = {str(i): loss for i, (loss, _) in enumerate(pairs)}
    costs = {str(i): cost for i, (_, cost) in enumerate(pairs)}
    for point in pareto_front(losses, costs):
        dominated = any(
            losses[other] <= point.loss
            and costs[other] <= point.cost
            and (losses[other], costs[other]) != (point.loss, point.cost)
            for other in losses
        )
        assert point.on_front != dominated


def test_a_difference_within_the_margin_does_not_justify_a_higher_cost() -> None:
    losses = {"sdpa": 2.3, "naive": 2.3 - 1e-6, "small": 2.308, "large": 2.2}
    equal = pareto_front(losses, dict.fromkeys(losses, 1.0), margin=0.01)
    assert [point.variant for point in equal if point.on_front] == ["large"]
    costs = {"sdpa": 2.0, "naive": 2.0, "small": 1.0, "large": 3.0}
    assert on_front(losses, costs, 0.0) == ["small", "naive", "large"]
    assert on_front(losses, costs, 0.001) == ["small", "naive", "sdpa", "large"]
    assert on_front(losses, costs, 0.01) == ["small", "large"]


def on_front(losses: dict[str, float], costs: dict[str, float], margin: float) -> list[str]:
    return [point.variant for point in pareto_front(losses, costs, margin) if point.on_front]


def test_there_is_a_front_for_every_cost_that_is_known_for_two_variants() -> None:
    base = outcome({"a": {1: 2.0, 2: 2.1}, "b": {1: 1.0, 2: 1.1}, "c": {1: None}})
    variants = [
        variant("a", {}, n_parameters=10, cache_bytes=None, memory_bytes=7),
        variant("b", {}, n_parameters=20, cache_bytes=None, memory_bytes=5),
        variant("c", {}, n_parameters=30, cache_bytes=None, memory_bytes=5),
    ]
    fronts = analyse(dataclasses.replace(base, variants=variants)).fronts
    assert set(fronts) == {"parameters", "memory"}
    assert [(point.variant, point.on_front) for point in fronts["parameters"]] == [("a", True), ("b", True)]
    assert [(point.variant, point.on_front) for point in fronts["memory"]] == [("b", True), ("a", False)]


def test_the_time_per_token_ignores_slow_first_steps() -> None:
    base = outcome({"a": {1: 2.0}})
    rates = [1.0, 100.0, 100.0, 100.0]  # the first step is slow
    rows = [{"step": 0}, *({"step": i + 1, "tokens_per_second": rate} for i, rate in enumerate(rates))]
    trial = dataclasses.replace(base.trials[0], rows=rows)
    assert seconds_per_token(dataclasses.replace(base, trials=[trial]), "a") == 0.01
