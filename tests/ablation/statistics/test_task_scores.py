"""Scores on tasks are compared like losses: paired by seed, with the direction of each task, in one Holm family."""

from __future__ import annotations

import io
import json
from dataclasses import replace

import pytest
from outcomes import ACCURACY, BITS, outcome, scored
from rich.console import Console
from scipy import stats

from gptzoo.ablation.records.scores import Score
from gptzoo.ablation.report.figures.figure import build_figures
from gptzoo.ablation.report.html_page import render_page
from gptzoo.ablation.report.tables import build_tables
from gptzoo.ablation.statistics.analyse import analyse
from gptzoo.ablation.terminal.print_outcome import outcome_as_dict, print_outcome


def test_differences_are_those_of_paired_t_tests_with_one_correction() -> None:
    scores = {(score.task, score.variant): score for score in analyse(scored()).scores}
    p_values = {}
    for task, values in (("quiz", ACCURACY), ("page", BITS)):
        for name in ("good", "bad"):
            n = 3 if name == "bad" else 4
            test = stats.ttest_rel(values[name][:n], values["base"][:n])
            score = scores[task, name]
            assert score.difference is not None
            assert score.difference.value == pytest.approx(sum(values[name][:n]) / n - sum(values["base"][:n]) / n)
            assert score.p == pytest.approx(test.pvalue)
            p_values[task, name] = test.pvalue
    order = sorted(p_values, key=lambda key: p_values[key])
    largest = 0.0
    for step, key in enumerate(order):
        largest = max(largest, min(1.0, (4 - step) * p_values[key]))
        assert scores[key].p_adjusted == pytest.approx(largest)
    verdicts = {key: score.verdict for key, score in scores.items()}
    assert verdicts == {
        ("quiz", "base"): None,
        ("quiz", "good"): "better",  # higher
        ("quiz", "bad"): "cannot tell",
        ("page", "base"): None,
        ("page", "good"): "better",  # lower
        ("page", "bad"): "worse",
    }
    for score in scores.values():
        if score.difference is not None and score.difference.low is not None and score.difference.high is not None:
            assert score.difference.low < score.difference.value < score.difference.high


def test_equal_scores_are_the_same_and_have_no_negative_zero() -> None:
    made = scored()
    trials = [replace(trial, scores={"quiz": {"acc": Score(0.5, True)}}, unscored="") for trial in made.trials]
    for score in analyse(replace(made, trials=trials)).scores:
        if score.difference is not None:
            assert (score.verdict, str(score.difference.value), str(score.difference.low)) == ("same", "0.0", "0.0")


def test_tables_page_and_terminal_show_the_scores() -> None:
    made = scored()
    analysis = analyse(made)
    tables = {table.name: table for table in build_tables(made, analysis)}
    assert len(tables["scores"].rows) == 6
    good = next(row for row in tables["scores"].rows if (row["task"], row["variant"]) == ("quiz", "good"))
    assert (good["mean"], good["n"], good["verdict"]) == (pytest.approx(0.435), 4, "better")
    assert len(tables["trial_scores"].rows) == 2 * (4 + 4 + 3)
    page = render_page(made, analysis, build_figures(made, analysis), list(tables.values()))
    section = page[page.index('<section id="scores">') : page.index('<section id="figures">')]
    assert section.count("<tr") == 7
    assert "quiz: acc ↑" in section
    assert "page: bits_per_byte ↓" in section
    text = io.StringIO()
    print_outcome(made, Console(file=text, width=200, highlight=False))
    assert "acc (higher is better)" in text.getvalue()
    assert "+0.1050" in text.getvalue()
    assert "bad seed 3 has no scores on some tasks: out of memory" in text.getvalue()
    scores = json.loads(json.dumps(outcome_as_dict(made)))["scores"]
    assert scores[1]["values"] == {"0": 0.41, "1": 0.44, "2": 0.43, "3": 0.46}


def test_an_ablation_without_scores_has_none_of_this() -> None:
    made = outcome({name: dict.fromkeys(range(3), 2.0) for name in ACCURACY})
    analysis = analyse(made)
    assert analysis.scores == []
    tables = build_tables(made, analysis)
    assert not {"scores", "trial_scores"} & {table.name for table in tables}
    assert 'id="scores"' not in render_page(made, analysis, build_figures(made, analysis), tables)
    assert "scores" not in outcome_as_dict(made)
