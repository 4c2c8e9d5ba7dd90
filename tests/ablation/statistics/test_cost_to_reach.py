"""The cost at which the baseline reaches the loss of a variant, against a slow reference and known power laws."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest
from outcomes import outcome, trial, variant
from scipy import stats

from gptzoo.ablation.records.analysis import CostToReach, Range
from gptzoo.ablation.records.outcome import BaselineLength, Outcome
from gptzoo.ablation.statistics.analyse import analyse
from gptzoo.ablation.statistics.cost_sentences import describe_multiple
from gptzoo.ablation.statistics.cost_to_reach import BaselineCurve, invert_test

STEPS, TOKENS, FLOPS_PER_TOKEN = 300, 307_200, 6000.0
MULTIPLES = (0.5, 1.0, 2.0)


def law(multiple: float) -> float:
    """Return the expected loss of the baseline at a multiple of its length."""
    return 2.0 + 0.6 * multiple**-0.4


def noisy(
    multiple: float, seeds: Sequence[int], draw: random.Random, sd: float, common: Mapping[int, float]
) -> dict[int, float]:
    return {seed: law(multiple) + common.get(seed, 0.0) + draw.gauss(0, sd) for seed in seeds}


def simulated(
    true: float, n: int, draw: random.Random, *, paired: bool = True
) -> tuple[dict[int, float], BaselineCurve]:
    """Draw a variant whose loss the baseline reaches at the multiple `true`, and the baseline at three lengths."""
    seeds = range(n)
    common = {seed: draw.gauss(0, 0.02) for seed in seeds}
    lengths = [noisy(multiple, seeds, draw, 0.01, common) for multiple in MULTIPLES]
    if paired:
        return noisy(true, seeds, draw, 0.01, common), BaselineCurve(MULTIPLES, lengths)
    others = range(100, 100 + n)
    of_others = {seed: draw.gauss(0, 0.02) for seed in others}
    return noisy(true, others, draw, 0.01, of_others), BaselineCurve(MULTIPLES, lengths)


def interpolated(x: float, xs: Sequence[float], ys: Sequence[float]) -> float:
    """Interpolate by the monotone cubic of Fritsch and Butland (1984), written out for three points."""
    h, d = [xs[1] - xs[0], xs[2] - xs[1]], [(ys[1] - ys[0]) / (xs[1] - xs[0]), (ys[2] - ys[1]) / (xs[2] - xs[1])]
    middle = 0.0
    if d[0] * d[1] > 0:
        w = [2 * h[1] + h[0], h[1] + 2 * h[0]]
        middle = (w[0] + w[1]) / (w[0] / d[0] + w[1] / d[1])

    def end(h0: float, h1: float, d0: float, d1: float) -> float:
        slope = ((2 * h0 + h1) * d0 - h0 * d1) / (h0 + h1)
        if slope * d0 <= 0:
            return 0.0
        return 3 * d0 if d0 * d1 <= 0 and abs(slope) > 3 * abs(d0) else slope

    slopes = [end(h[0], h[1], d[0], d[1]), middle, end(h[1], h[0], d[1], d[0])]
    k = 0 if x <= xs[1] else 1
    t = (x - xs[k]) / h[k]
    return (
        (2 * t**3 - 3 * t**2 + 1) * ys[k]
        + (t**3 - 2 * t**2 + t) * h[k] * slopes[k]
        + (3 * t**2 - 2 * t**3) * ys[k + 1]
        + (t**3 - t**2) * h[k] * slopes[k + 1]
    )


def slow_reference(
    losses: Mapping[int, float], curve: BaselineCurve, level: float, *, paired: bool
) -> tuple[float, float, float]:
    """Return the value and the ends by testing 2001 multiples, one after the other, with the tests of scipy."""
    xs = [math.log(multiple) for multiple in curve.multiples]
    accepted, differences = [], []
    for step in range(2001):
        x = xs[0] + (xs[-1] - xs[0]) * step / 2000
        baseline = {seed: interpolated(x, xs, [length[seed] for length in curve.losses]) for seed in curve.losses[0]}
        if paired:
            p = stats.ttest_rel([losses[seed] for seed in baseline], list(baseline.values())).pvalue
        else:
            p = stats.ttest_ind(list(losses.values()), list(baseline.values()), equal_var=False).pvalue
        mean_difference = sum(losses.values()) / len(losses) - sum(baseline.values()) / len(baseline)
        differences.append((abs(mean_difference), x))
        if p >= level:
            accepted.append(x)
    return math.exp(min(differences)[1]), math.exp(accepted[0]), math.exp(accepted[-1])


@pytest.mark.slow
@pytest.mark.parametrize("paired", [True, False])
@pytest.mark.parametrize("level", [0.05, 0.0125])
def test_the_interval_has_the_lengths_that_the_tests_of_scipy_do_not_reject(paired: bool, level: float) -> None:
    losses, curve = simulated(1.1, 8, random.Random(3), paired=paired)
    value, low, high = slow_reference(losses, curve, level, paired=paired)
    reached = invert_test(losses, curve, paired=paired, level=level)
    assert reached.multiple.value == pytest.approx(value, rel=1e-3)
    assert (low > 0.501, high < 1.999) == (True, True)  # the reference has both ends within the lengths
    assert (reached.multiple.low, reached.multiple.high) == pytest.approx((low, high), rel=1e-3)
    assert reached.n == 8


@pytest.mark.parametrize("true", [0.6, 0.9, 1.0, 1.31, 1.9])
def test_without_noise_the_value_is_that_of_the_law_to_within_one_percent(true: float) -> None:
    curve = BaselineCurve(MULTIPLES, [{1: law(multiple), 2: law(multiple)} for multiple in MULTIPLES])
    reached = invert_test({1: law(true), 2: law(true)}, curve, paired=True, level=0.05)
    assert reached.multiple.value == pytest.approx(true, rel=0.01)
    assert reached.multiple.low == pytest.approx(reached.multiple.value)
    assert reached.multiple.high == pytest.approx(reached.multiple.value)


@pytest.mark.slow
@pytest.mark.parametrize(("true", "n"), [(0.8, 3), (1.3, 5)])
@pytest.mark.parametrize("paired", [True, False])
def test_intervals_contain_the_cost_of_a_known_law_in_about_95_percent(true: float, n: int, paired: bool) -> None:
    draw, n_simulated = random.Random(n), 300
    hits = 0
    for _ in range(n_simulated):
        reached = invert_test(*simulated(true, n, draw, paired=paired), paired=paired, level=0.05).multiple
        hits += (reached.low or 0.0) <= true <= (reached.high or math.inf)
    # Four standard errors around 95%. Welch's test is conservative for few seeds.
    assert 0.90 <= hits / n_simulated <= (0.995 if paired else 1.0)


def made(true: float, noise: Callable[[int, float], float] = lambda seed, multiple: 0.0, **options: Any) -> Outcome:
    """Return an outcome with the variant "glu", whose loss the baseline "mlp" reaches at the multiple `true`."""

    def at(multiple: float) -> dict[int, float | None]:
        return {seed: law(multiple) + noise(seed, multiple) for seed in (1, 2, 3, 4)}

    lengths = [
        BaselineLength(m, round(m * STEPS), [trial(f"mlp-x{m:g}", seed, loss) for seed, loss in at(m).items()])
        for m in (0.5, 2.0)
    ]
    variants = [variant(name, {"model.ffn": name}, steps=STEPS, tokens=TOKENS) for name in ("mlp", "glu")]
    glu = {seed: law(true) + noise(seed, -true) for seed in (1, 2, 3, 4)}
    return outcome({"mlp": at(1.0), "glu": glu}, **({"variants": variants, "baseline_lengths": lengths} | options))


def small_noise(seed: int, multiple: float) -> float:
    return random.Random(f"{seed} {multiple}").gauss(0, 0.004)


def only_cost(made_outcome: Outcome) -> CostToReach:
    (cost,) = analyse(made_outcome).costs
    return cost


def test_the_cost_is_said_in_every_unit_that_is_known() -> None:
    cost = only_cost(made(1.31, small_noise))
    value = cost.multiple.value
    assert value == pytest.approx(1.31, abs=0.1)
    assert set(cost.needed) == {"steps", "tokens", "flops"}  # the trials have no step times
    for name, own in {"steps": STEPS, "tokens": TOKENS, "flops": TOKENS * FLOPS_PER_TOKEN}.items():
        assert cost.needed[name].value == pytest.approx(value * own)
        assert cost.needed[name].low == pytest.approx(cost.multiple.low * own)
        assert cost.needed[name].high == pytest.approx(cost.multiple.high * own)
        assert cost.spent[name] == own
    low, high = cost.multiple.low, cost.multiple.high
    multiple = f"{value:.3g}x ({low:.3g}x to {high:.3g}x)"
    start = f"The baseline mlp needs {multiple} its own number of steps to reach the val/loss of glu: "
    assert cost.sentence.startswith(start)
    steps = cost.needed["steps"]
    assert f"glu: {steps.value:.0f} ({steps.low:.0f} to {steps.high:.0f}) steps, " in cost.sentence
    assert cost.sentence.endswith("glu itself took 300 steps, 307,200 tokens, 1.84 G FLOPs.")


def test_seconds_are_those_of_the_steps_that_were_measured() -> None:
    def timed(each: Any, tokens_per_second: float) -> Any:
        row = {**each.rows[-1], "tokens": TOKENS, "tokens_per_second": tokens_per_second}
        return replace(each, rows=[each.rows[0], row])

    plain = made(1.31, small_noise)
    trials = [timed(each, 10_240.0 if each.variant == "mlp" else 5_120.0) for each in plain.trials]
    cost = only_cost(replace(plain, trials=trials))
    assert cost.needed["seconds"].value == pytest.approx(30 * cost.multiple.value)
    assert cost.spent["seconds"] == pytest.approx(60)
    assert cost.sentence.endswith("1.84 G FLOPs, 60 seconds.")


def test_the_interval_excludes_the_own_length_exactly_if_the_verdict_is_a_difference() -> None:
    for true in (0.8, 0.9, 0.97, 1.0, 1.02, 1.05, 1.2, 1.4):
        analysis = analyse(made(true, small_noise, margin=0.0))
        (cost,), (comparison,) = analysis.costs, analysis.comparisons
        contains_1 = (cost.multiple.low or 0.0) <= 1.0 <= (cost.multiple.high or math.inf)
        assert contains_1 == (comparison.verdict == "cannot tell"), true


def test_beyond_the_longest_runs_there_is_only_a_bound() -> None:
    cost = only_cost(made(5.0, small_noise))
    assert cost.multiple == Range(None, 2.0, None)
    assert (cost.beyond, cost.shortest, cost.longest) == ("longest", 0.5, 2.0)
    assert cost.sentence.startswith("The baseline mlp needs more than 2x its own number of steps to reach the val/loss")
    assert "more than 600 steps" in cost.sentence
    assert describe_multiple(cost) == "> 2x"


def test_below_the_shortest_runs_there_is_only_a_bound() -> None:
    cost = only_cost(made(0.1, small_noise))
    assert cost.multiple == Range(None, None, 0.5)
    assert cost.beyond == "shortest"
    assert cost.sentence.startswith(
        "The baseline mlp needs less than 0.5x its own number of steps to reach the val/loss"
    )
    assert "less than 150 steps" in cost.sentence


def test_a_mean_beyond_the_longest_runs_whose_interval_begins_below_gives_that_bound() -> None:
    cost = only_cost(made(2.05, small_noise))
    assert cost.multiple.value is None
    assert cost.multiple.high is None
    assert cost.multiple.low is not None
    assert 1.0 < cost.multiple.low < 2.0
    assert cost.sentence.startswith(
        "The mean val/loss of glu is lower than that of the baseline mlp at 2x its own number of steps"
    )
    assert f"needs more than {cost.multiple.low:.3g}x its own number of steps to reach it: more than" in cost.sentence


def test_an_interval_beyond_both_ends_bounds_nothing() -> None:
    cost = only_cost(made(1.3, lambda seed, m: 0.0 if m > 0 else (seed - 2.5) * 0.5))
    assert (cost.multiple.low, cost.multiple.high) == (None, None)
    assert "x (less than 0.5x to more than 2x) its own number of steps" in cost.sentence
    assert f": {cost.needed['steps'].value:.0f} (less than 150 to more than 600) steps, " in cost.sentence
    assert describe_multiple(cost) == f"{cost.multiple.value:.3g}x (< 0.5x to > 2x)"


def test_one_seed_gives_no_interval() -> None:
    several = made(1.31)
    one = replace(
        several,
        trials=[each for each in several.trials if each.seed == 1],
        baseline_lengths=[
            replace(length, trials=[each for each in length.trials if each.seed == 1])
            for length in several.baseline_lengths
        ],
    )
    cost = only_cost(one)
    assert cost.multiple.value == pytest.approx(1.31, rel=0.01)
    assert (cost.multiple.low, cost.multiple.high, cost.n) == (None, None, 1)
    assert "one seed gives no interval" in cost.sentence


def test_a_baseline_that_longer_training_does_not_improve_gives_a_note_and_no_cost() -> None:
    flat = made(1.31, lambda seed, multiple: 0.6 if multiple == 2.0 else 0.0)
    analysis = analyse(flat)
    assert analysis.costs == []
    assert "does not fall from each length to the next" in "\n".join(analysis.notes)


def test_fewer_than_three_lengths_with_results_give_a_note_and_no_cost() -> None:
    complete = made(1.31, small_noise)
    shortest, longest = complete.baseline_lengths
    failed = replace(longest, trials=[trial(each.variant, each.seed, None) for each in longest.trials])
    analysis = analyse(replace(complete, baseline_lengths=[shortest, failed]))
    assert analysis.costs == []
    notes = "\n".join(analysis.notes)
    assert "runs of 2 lengths have a result, and 3 are needed" in notes
    assert "4 of 8 runs of mlp at other lengths failed (mlp-x2 seed 1, mlp-x2 seed 2, " in notes


def test_a_seed_that_failed_at_one_length_is_left_out_of_the_cost_but_not_of_the_verdict() -> None:
    complete = made(1.31, small_noise)
    shortest, longest = complete.baseline_lengths
    damaged = replace(longest, trials=[trial("mlp-x2", 1, None), *longest.trials[1:]])
    analysis = analyse(replace(complete, baseline_lengths=[shortest, damaged]))
    assert analysis.costs[0].n == 3
    assert analysis.comparisons[0].difference is not None
    assert analysis.comparisons[0].difference.n == 4


def test_without_other_lengths_nothing_is_said() -> None:
    analysis = analyse(made(1.31, small_noise, baseline_lengths=()))
    assert analysis.costs == []
    assert not any("to reach" in note for note in analysis.notes)
