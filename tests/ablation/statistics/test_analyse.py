"""Verdicts on recorded and synthetic endpoints, and invariants that hold for any endpoints."""

from __future__ import annotations

import dataclasses
import json
import math
import random
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from outcomes import outcome, recorded, trial
from scipy import stats

from gptzoo.ablation.records.analysis import Analysis, Comparison
from gptzoo.ablation.statistics.analyse import analyse
from gptzoo.ablation.statistics.power import detectable_difference

LOSSES = st.floats(-10, 10).map(lambda value: round(value, 3))


def only(analysis: Analysis) -> Comparison:
    (comparison,) = analysis.comparisons
    return comparison


def first_five(variant: str) -> dict[int, float]:
    return {seed: recorded()[variant][seed] for seed in range(1, 6)}


# ---------------------------------------------------------------------- recorded runs


def test_naive_and_sdpa_are_the_same_despite_rounding() -> None:
    comparison = only(analyse(outcome({"sdpa": first_five("baseline"), "naive": first_five("naive")})))
    assert first_five("baseline") != first_five("naive")
    assert comparison.verdict == "same"
    assert comparison.sentence.startswith("naive is the same as sdpa to within 0.01: the difference is")


def test_a_model_without_positions_is_worse_than_rope() -> None:
    comparison = only(analyse(outcome({"rope": first_five("baseline"), "none": first_five("none")})))
    assert comparison.verdict == "worse"
    assert comparison.paired


@pytest.mark.parametrize("n_copies", [1, pytest.param(4, marks=pytest.mark.slow)])
def test_copies_of_the_baseline_are_rarely_called_different(n_copies: int) -> None:
    """An exact 5% test calls at most 16 of 200 different with probability above 0.95."""
    losses, rng = list(recorded()["baseline"].values()), random.Random(1)
    called = 0
    for _ in range(200):
        drawn = dict(enumerate(rng.sample(losses, 5 * (n_copies + 1))))  # no two variants share a seed
        names = ["baseline", *(f"copy {copy}" for copy in range(n_copies))]
        sides = {name: {s: drawn[s] for s in range(5 * i, 5 * i + 5)} for i, name in enumerate(names)}
        analysis = analyse(outcome(sides))
        called += any(c.verdict in ("better", "worse") for c in analysis.comparisons)
    assert stats.binom.cdf(16, 200, 0.05) > 0.95
    assert called <= 16


def test_a_true_effect_of_the_detectable_size_is_found_with_the_stated_power() -> None:
    losses, rng = recorded()["baseline"], random.Random(2)
    effect = detectable_difference(float(np.std(list(losses.values()), ddof=1)), 5)
    n_found = 0
    for _ in range(200):
        drawn = rng.sample(sorted(losses.items()), 10)
        sides = {"baseline": dict(drawn[:5]), "planted": {seed: loss + effect for seed, loss in drawn[5:]}}
        n_found += only(analyse(outcome(sides, paired=False))).verdict == "worse"
    assert stats.binom.sf(148, 200, 0.8) > 0.95
    assert n_found >= 149


@pytest.mark.slow
def test_paired_runs_find_one_true_effect_among_several_with_the_stated_power() -> None:
    """Three comparisons, one with a true effect, with recorded noise."""
    losses, rng = list(recorded()["baseline"].values()), random.Random(3)
    sd = float(np.std(losses, ddof=1))
    effect = detectable_difference(sd * math.sqrt(2), 6, n_comparisons=3, paired=True)
    n_found = 0
    for _ in range(200):
        drawn = [dict(enumerate(rng.sample(losses, 6))) for _ in range(4)]
        drawn[3] = {seed: loss - effect for seed, loss in drawn[3].items()}
        names = ("baseline", "copy", "another", "planted")
        analysis = analyse(outcome(dict(zip(names, drawn, strict=True))))
        n_found += next(c.verdict for c in analysis.comparisons if c.variant == "planted") == "better"
    assert n_found >= 149


# ---------------------------------------------------------------------- against other libraries


def test_paired_and_independent_differences_equal_those_of_scipy() -> None:
    rng = np.random.default_rng(4)
    base, other = rng.normal(3, 0.1, 6), rng.normal(3.1, 0.3, 6)
    sides = {"base": dict(enumerate(base)), "other": dict(enumerate(other))}
    for paired, theirs in (
        (True, stats.ttest_rel(other, base)),
        (False, stats.ttest_ind(other, base, equal_var=False)),
    ):
        ours = only(analyse(outcome(sides, paired=paired)))
        assert ours.difference is not None
        assert ours.paired == paired
        assert ours.p == pytest.approx(theirs.pvalue)
        interval = theirs.confidence_interval(0.95)
        assert (ours.difference.low, ours.difference.high) == pytest.approx((interval.low, interval.high))


def test_adjusted_p_values_equal_those_of_statsmodels() -> None:
    from statsmodels.stats.multitest import multipletests

    rng = np.random.default_rng(5)
    losses = {f"v{i}": dict(enumerate(rng.normal(i * 0.03, 0.1, 5))) for i in range(7)}
    analysis = analyse(outcome(losses))
    theirs = multipletests([c.p for c in analysis.comparisons], method="holm")[1]
    assert [c.p_adjusted for c in analysis.comparisons] == pytest.approx(theirs)


# ---------------------------------------------------------------------- verdicts


def test_identical_runs_are_the_same() -> None:
    comparison = only(
        analyse(outcome({"a": dict.fromkeys(range(5), 2.5), "b": dict.fromkeys(range(5), 2.5)}, margin=0.0))
    )
    assert (comparison.verdict, comparison.p) == ("same", 1.0)
    assert comparison.effect_size is None
    assert "nan" not in comparison.sentence


def test_a_difference_without_spread_has_a_verdict() -> None:
    sides = {"a": dict.fromkeys(range(3), 2.5), "b": dict.fromkeys(range(3), 2.75)}
    for paired in (True, False):
        comparison = only(analyse(outcome(sides, paired=paired)))
        assert (comparison.verdict, comparison.p, comparison.detectable) == ("worse", 0.0, 0.0)


def test_a_significant_difference_within_the_margin_is_the_same() -> None:
    sides = {"a": {s: s / 10 for s in range(5)}, "b": {s: s / 10 + 1e-6 + 1e-8 * s for s in range(5)}}
    comparison = only(analyse(outcome(sides)))
    assert comparison.p is not None
    assert comparison.p < 1e-6
    assert comparison.verdict == "same"
    assert only(analyse(outcome(sides, margin=0.0))).verdict == "worse"


def test_one_seed_cannot_tell_and_the_sentence_says_why() -> None:
    comparison = only(analyse(outcome({"a": {1: 2.0}, "b": {1: 3.0}})))
    assert comparison.verdict == "cannot tell"
    assert (comparison.p, comparison.detectable, comparison.more_seeds) == (None, None, None)
    assert comparison.sentence == (
        "Cannot tell b from a: the difference is 1 nats per token of val/loss (1 pair of runs); "
        "a single seed says nothing about the spread over seeds."
    )


def test_the_interval_in_a_sentence_has_the_sign_of_the_verdict() -> None:
    losses = {"a": {1: 3.0, 2: 3.1, 3: 3.2}, "b": {1: 2.5, 2: 2.6, 3: 2.8}}
    comparison = only(analyse(outcome(losses)))
    assert comparison.verdict == "better"
    pattern = r"b is better than a by ([\d.]+) nats per token of val/loss \(([\d.]+) to ([\d.]+); 3 pairs of runs\)\."
    numbers = re.fullmatch(pattern, comparison.sentence)
    assert numbers is not None, comparison.sentence
    difference = comparison.difference
    assert difference is not None
    assert difference.low is not None
    assert difference.high is not None
    expected = [-difference.value, -difference.high, -difference.low]
    assert [float(x) for x in numbers.groups()] == pytest.approx(expected, abs=0.006)


def test_an_impractical_number_of_seeds_is_not_recommended() -> None:
    far = {"a": {1: 3.0, 2: 3.1, 3: 2.9}, "b": {1: 3.1003, 2: 3.0, 3: 2.9}}
    comparison = only(analyse(outcome(far)))
    assert comparison.more_seeds is not None
    assert comparison.more_seeds > 1000
    assert comparison.sentence.endswith("no practical number of seeds would decide.")


def test_cannot_tell_says_how_many_more_seeds_would_decide() -> None:
    rng = np.random.default_rng(6)
    base, noise = rng.normal(3, 0.1, 400), rng.normal(0, 0.1, 400)
    sides = {"a": dict(enumerate(base)), "b": dict(enumerate(base + 0.06 + noise))}
    few = only(analyse(outcome({name: dict(list(of.items())[:5]) for name, of in sides.items()})))
    assert few.verdict == "cannot tell"
    assert few.difference is not None
    assert few.more_seeds is not None
    assert f"{few.more_seeds} more seeds would decide that it is worse, if" in few.sentence
    n_sufficient = 5 + sufficient_more_seeds(few)
    assert (
        only(analyse(outcome({name: dict(list(of.items())[:n_sufficient]) for name, of in sides.items()}))).verdict
        == "worse"
    )


def sufficient_more_seeds(few: Comparison) -> int:
    assert few.more_seeds is not None
    return 2 * few.more_seeds  # five seeds estimate the difference only roughly


# ---------------------------------------------------------------------- missing data


def test_failures_are_reported_in_sentences_and_notes() -> None:
    losses = {"a": {1: 2.0, 2: 2.1, 3: 2.2}, "b": {1: 2.5, 2: None, 3: 2.6}, "c": {1: None, 2: None, 3: None}}
    analysis = analyse(outcome(losses))
    b, c = analysis.comparisons
    assert (b.variant, b.n_failed, b.difference and b.difference.n) == ("b", 1, 2)
    assert "1 of 3 trials failed (seed 2): diverged: the loss is nan" in b.sentence
    assert (c.variant, c.verdict, c.n_failed) == ("c", "no data", 3)
    assert c.sentence == "No data for c: 3 of 3 trials failed (seed 1, 2, 3): diverged: the loss is nan."
    assert [(w.kind, list(w.variants)) for w in analysis.warnings] == [("failed seeds", ["b"]), ("failed seeds", ["c"])]
    assert any("seed 2" in note and "partner" in note for note in analysis.notes)


def test_a_trial_that_ended_without_a_number_is_a_failure() -> None:
    losses = {"a": {1: 2.0, 2: 2.1}, "b": {1: 2.0, 2: 2.1}}
    base = outcome(losses)
    broken = dataclasses.replace(base.trials[3], rows=[*base.trials[3].rows, {"step": 11, "val/loss": None}])
    comparison = only(analyse(dataclasses.replace(base, trials=[*base.trials[:3], broken])))
    assert comparison.n_failed == 1


def test_without_a_baseline_there_is_no_data() -> None:
    analysis = analyse(outcome({"a": {1: None, 2: None}, "b": {1: 2.0, 2: 2.1}}))
    assert only(analysis).verdict == "no data"
    assert "No data for a: 2 of 2 trials failed" in only(analysis).sentence
    assert list(analysis.ranking) == ["b"]


def test_there_is_no_data_before_any_trial_is_done() -> None:
    base = outcome({"a": {1: 1.0}, "b": {1: 1.0}})
    waiting = [dataclasses.replace(trial, state="waiting", rows=[]) for trial in base.trials]
    analysis = analyse(dataclasses.replace(base, trials=waiting))
    assert only(analysis).verdict == "no data"
    assert only(analysis).sentence == "No data for b yet: 1 trial not done."
    assert analysis.noise is None
    assert analysis.notes[0] == "2 of 2 trials not done yet: these results may change."


def test_runs_without_shared_seeds_are_compared_as_independent() -> None:
    analysis = analyse(outcome({"a": {1: 2.0, 2: 2.1, 3: 2.2}, "b": {4: 2.5, 5: 2.6}}))
    assert not only(analysis).paired
    assert any("too few seeds" in note for note in analysis.notes)


def test_an_outlier_seed_is_noted() -> None:
    rng = np.random.default_rng(7)
    losses = {name: dict(enumerate(rng.normal(2, 0.01, 5))) for name in "ab"}
    assert not any("far from" in note for note in analyse(outcome(losses)).notes)
    losses["b"][3] = 4.0
    assert any(
        note.startswith("b: seed 3 ended at a val/loss of 4 nats per token, far from")
        for note in analyse(outcome(losses)).notes
    )


def test_variants_with_different_noise_have_no_outliers() -> None:
    """A variant with much more noise than the others is measured by its own spread."""
    rng = np.random.default_rng(7)
    losses = {name: dict(enumerate(rng.normal(3, 1e-4, 5))) for name in "abcd"}
    losses |= {name: dict(enumerate(rng.normal(2, 0.05, 5))) for name in "ef"}
    assert not any("far from" in note for note in analyse(outcome(losses)).notes)
    losses["e"][3] = 4.0
    assert any(
        note.startswith("e: seed 3 ended at a val/loss of 4 nats per token, far from")
        for note in analyse(outcome(losses)).notes
    )


# ---------------------------------------------------------------------- invariants


@st.composite
def many_losses(draw: st.DrawFn) -> dict[str, dict[int, float | None]]:
    names = [f"v{i}" for i in range(draw(st.integers(2, 4)))]
    values = st.one_of(LOSSES, st.just(2.5), st.none())
    return {name: draw(st.dictionaries(st.integers(1, 6), values, min_size=1)) for name in names}


@settings(max_examples=60, deadline=None)
@given(many_losses(), st.booleans(), st.sampled_from([0.0, 0.01, 1.0]))
def test_no_verdict_contradicts_its_interval_and_nothing_is_nan(
    losses: dict[str, dict[int, float | None]], paired: bool, margin: float
) -> None:
    analysis = analyse(outcome(losses, paired=paired, margin=margin))
    json.dumps(dataclasses.asdict(analysis), allow_nan=False)
    assert {c.variant for c in analysis.comparisons} == set(losses) - {"v0"}
    for c in analysis.comparisons:
        if c.difference is None or c.difference.low is None or c.difference.high is None:
            assert c.verdict in ("no data", "cannot tell")
            continue
        low, high = c.difference.low, c.difference.high
        inside, apart = -margin <= low and high <= margin, low > 0 or high < 0
        assert c.verdict == ("same" if inside else ("worse" if low > 0 else "better") if apart else "cannot tell")
        assert c.p_adjusted is not None
        if abs(c.p_adjusted - 0.05) > 1e-9:
            assert apart == (c.p_adjusted < 0.05)


@settings(max_examples=40, deadline=None)
@given(many_losses(), st.booleans(), st.sampled_from([-4.0, 3.5]), st.sampled_from([0.5, 8.0]))
def test_shifting_and_scaling_all_losses_changes_no_verdict(
    losses: dict[str, dict[int, float | None]], paired: bool, shift: float, scale: float
) -> None:
    moved = {n: {s: None if x is None else scale * (x + shift) for s, x in of.items()} for n, of in losses.items()}
    before = analyse(outcome(losses, paired=paired))
    after = analyse(outcome(moved, paired=paired, margin=0.01 * scale))
    for c, other in zip(by_name(before), by_name(after), strict=True):
        low, high = (None, None) if c.difference is None else (c.difference.low, c.difference.high)
        if low is None or high is None:
            assert (c.verdict, c.p) == (other.verdict, other.p)
        elif high - low > 1e-9:  # constant differences are constant only up to rounding
            assert c.p == pytest.approx(other.p, rel=1e-6, abs=1e-9)
            if min(abs(abs(end) - edge) for end in (low, high) for edge in (0.0, 0.01)) > 1e-9:
                assert c.verdict == other.verdict


@settings(max_examples=40, deadline=None)
@given(many_losses(), st.booleans(), st.randoms(use_true_random=False))
def test_the_order_of_variants_and_trials_changes_nothing(
    losses: dict[str, dict[int, float | None]], paired: bool, rng: random.Random
) -> None:
    base = outcome(losses, paired=paired)
    variants, trials = list(base.variants), list(base.trials)
    rng.shuffle(variants)
    rng.shuffle(trials)
    shuffled = dataclasses.replace(base, variants=variants, trials=trials)
    assert by_name(analyse(base)) == by_name(analyse(shuffled))


def by_name(analysis: Analysis) -> list[Comparison]:
    return sorted(analysis.comparisons, key=lambda c: c.variant)


@pytest.mark.slow
def test_false_differences_are_no_more_frequent_than_alpha_over_all_comparisons() -> None:
    """All true differences are 0, so at most a share of alpha of the ablations may call any variant different."""
    rng = np.random.default_rng(8)
    missed = 0
    for _ in range(300):
        losses = {f"v{i}": dict(enumerate(rng.normal(size=4))) for i in range(5)}
        missed += any(c.verdict in ("better", "worse") for c in analyse(outcome(losses)).comparisons)
    assert missed <= stats.binom.ppf(0.999, 300, 0.05)


def test_the_trials_of_these_tests_have_the_given_endpoint() -> None:
    assert trial("a", 1, None).last("val/loss") is None
    assert trial("a", 1, 2.0).last("val/loss") == 2.0


@pytest.mark.parametrize(
    ("seeds", "paired", "note"),
    [
        ((1,), True, "b against a: without a partner, so not compared: seed 2, 3."),
        ((1, 2), True, "b against a: without a partner, so not compared: seed 3."),
        ((4,), False, "b and a share too few seeds to pair: compared as independent runs."),
        ((3, 4), False, "b and a share too few seeds to pair: compared as independent runs."),
    ],
)
def test_the_note_on_pairs_says_how_the_variant_was_compared(seeds: tuple[int, ...], paired: bool, note: str) -> None:
    made = analyse(outcome({"a": {1: 2.0, 2: 2.1, 3: 2.2}, "b": {seed: 2.5 + 0.01 * seed for seed in seeds}}))
    assert only(made).paired == paired
    assert note in made.notes
