"""Results on synthetic tasks: means, solved seeds and comparisons within a task, against direct counts."""

from __future__ import annotations

import csv
import io
from dataclasses import replace
from pathlib import Path
from statistics import mean

import pytest
from outcomes import variant
from scipy import stats

from gptzoo.ablation.records.outcome import Outcome
from gptzoo.ablation.records.tasks import TaskMetric
from gptzoo.ablation.records.trial import TrialOutcome
from gptzoo.ablation.records.warning import ComparisonWarning
from gptzoo.ablation.report.figures.figure import build_figures
from gptzoo.ablation.report.figures.task_figures import StatePlot
from gptzoo.ablation.report.html_page import render_page
from gptzoo.ablation.report.paper_tables import build_paper_tables
from gptzoo.ablation.report.summary import headline
from gptzoo.ablation.report.tables import build_tables
from gptzoo.ablation.statistics.analyse import analyse
from gptzoo.ablation.terminal.print_outcome import outcome_as_dict

VALUES = {
    ("recall", "full"): [1.0, 0.99, 0.97],
    ("recall", "linear"): [0.2, 0.98, 0.21],
    ("copying", "full"): [0.31, 0.30, 0.29],
    ("copying", "linear"): [0.95, 0.96, 0.94],
}
STATE = {"full": 4096, "linear": 512}


def made() -> Outcome:
    """Return an ablation of two models on two tasks. Neither task is easy for both."""
    variants = [
        variant(
            f"{task}-{model}",
            {"corpus": task, "model.attention": model},
            reference="copying-full" if task == "copying" else "",
            task_metrics=[
                TaskMetric("val/accuracy", 16, 0.25, STATE[model]),
                TaskMetric("val/long/accuracy", 64, 0.25, None),
            ],
        )
        for task, model in VALUES
    ]
    trials = [
        TrialOutcome(f"{task}-{model}", seed, "done", rows=[{"step": 9, "val/accuracy": v, "val/long/accuracy": v / 2}])
        for (task, model), values in VALUES.items()
        for seed, v in enumerate(values)
    ]
    return Outcome(
        name="skills",
        folder=Path("skills"),
        baseline="recall-full",
        axes={"corpus": ["recall", "copying"], "model.attention": ["full", "linear"]},
        factorial=True,
        metric="val/accuracy",
        paired=True,
        margin=0.01,
        level=0.05,
        power=0.8,
        variants=variants,
        trials=trials,
        higher_is_better=True,
        task_axes=["corpus"],
    )


def test_each_variant_is_compared_with_the_baseline_of_its_task() -> None:
    analysis = analyse(made())
    found = {comparison.variant: comparison for comparison in analysis.comparisons}
    assert set(found) == {"recall-linear", "copying-linear"}
    assert found["copying-linear"].verdict == "better"
    assert found["copying-linear"].sentence.startswith("copying-linear is better than copying-full by 0.65")
    for task in ("recall", "copying"):
        differences = [b - a for a, b in zip(VALUES[task, "full"], VALUES[task, "linear"], strict=True)]
        of = found[f"{task}-linear"]
        assert of.difference is not None
        assert of.difference.value == pytest.approx(mean(differences))
        assert of.p == pytest.approx(stats.ttest_1samp(differences, 0).pvalue)


def test_intervals_of_differences_of_accuracies_are_within_minus_one_and_one() -> None:
    (wide,) = (c for c in analyse(made()).comparisons if c.variant == "recall-linear")
    differences = [b - a for a, b in zip(VALUES["recall", "full"], VALUES["recall", "linear"], strict=True)]
    low, high = stats.t.interval(0.95, 2, mean(differences), stats.sem(differences))
    assert wide.difference is not None
    assert low < -1 < high < 1
    assert (wide.difference.low, wide.difference.high) == pytest.approx((-1, high))
    assert "the difference is −0.52 of val/accuracy (−1.00 to " in wide.sentence


def test_effects_are_averages_over_tasks_and_never_a_difference_between_tasks() -> None:
    (effect,) = analyse(made()).effects
    assert effect.choices == {"model.attention": "linear"}
    over_tasks = [
        mean(VALUES[task, "linear"][seed] - VALUES[task, "full"][seed] for task in ("recall", "copying"))
        for seed in range(3)
    ]
    assert effect.estimate.value == pytest.approx(mean(over_tasks))


def test_costs_of_different_tasks_are_not_compared() -> None:
    analysis = analyse(made())
    assert (analysis.fronts, analysis.matched) == ({}, {})
    assert list(analysis.ranking) == ["recall-full", "recall-linear", "copying-linear", "copying-full"]
    assert "Of 2 variants compared with the baseline of the same task" in headline(made(), analysis)


def test_the_number_of_solved_seeds_has_the_exact_binomial_interval() -> None:
    results = {(r.task, r.model, r.metric.metric): r for r in analyse(made()).tasks}
    assert len(results) == 8
    for (task, model), values in VALUES.items():
        result = results[task, model, "val/accuracy"]
        n_solved = sum(value >= 0.9 for value in values)
        interval = stats.binomtest(n_solved, 3).proportion_ci(0.95, method="exact")
        assert (result.n_solved, result.values) == (n_solved, dict(enumerate(values)))
        assert (result.solved_low, result.solved_high) == pytest.approx((interval.low, interval.high))
        low, high = stats.t.interval(0.95, 2, mean(values), stats.sem(values))
        assert result.mean is not None
        assert (result.mean.low, result.mean.high) == pytest.approx((max(low, 0), min(high, 1)))
        assert results[task, model, "val/long/accuracy"].n_solved == 0


def test_every_seed_is_a_point_against_the_bytes_of_its_state() -> None:
    (plot,) = (figure for figure in build_figures(made(), analyse(made())) if isinstance(figure, StatePlot))
    assert list(plot.panels) == ["recall", "copying"]  # the state at 64 tokens is not known
    points = {(task, p.model, p.seed): (p.state_bytes, p.value) for task, of in plot.panels.items() for p in of}
    assert points == {(t, m, seed): (STATE[m], v) for (t, m), of in VALUES.items() for seed, v in enumerate(of)}


def test_tables_papers_and_json_have_the_same_results() -> None:
    outcome = made()
    analysis = analyse(outcome)
    tables = {
        table.name: list(csv.DictReader(io.StringIO(table.as_csv()))) for table in build_tables(outcome, analysis)
    }
    assert len(tables["tasks"]) == 8
    assert len(tables["task_trials"]) == 24
    row = next(r for r in tables["tasks"] if (r["variant"], r["metric"]) == ("recall-linear", "val/accuracy"))
    assert (row["solved"], row["n"], row["state_bytes"], row["chance"]) == ("1", "3", "512", "0.25")
    paper = next(table for table in build_paper_tables(outcome, analysis) if table.name == "tasks")
    assert paper.rows[1][0] == "linear"
    assert paper.rows[1][1].startswith("0.463 (0.000–1.000), 1/3 solved")
    assert r"\begin{tabular}{lrrrr}" in paper.as_latex()
    doubtful = replace(analysis, warnings=[ComparisonWarning("plan", "The models were not tuned.")])
    assert all("Warning: The models were not tuned." in t.notes for t in build_paper_tables(outcome, doubtful))
    tasks = outcome_as_dict(outcome)["tasks"]
    assert [(t["variant"], t["metric"]["metric"], t["n_solved"]) for t in tasks[:2]] == [
        ("recall-full", "val/accuracy", 3),
        ("recall-linear", "val/accuracy", 1),
    ]


def test_the_page_has_the_heat_map_without_any_script() -> None:
    outcome = made()
    analysis = analyse(outcome)
    page = render_page(outcome, analysis, build_figures(outcome, analysis), build_tables(outcome, analysis))
    section = page[page.index('<section id="tasks">') : page.index('<section id="ranking">')]
    assert section.count('class="shade-') == 8
    assert "3/3 solved" in section
    assert 'class="shade-10"' in section
    assert "<small>16 tokens, chance 0.25</small>" in section
    assert 'id="figure-states"' in section
