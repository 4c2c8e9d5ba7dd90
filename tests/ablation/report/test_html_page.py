"""The HTML of the page, as a parser reads it; `test_browser.py` opens it in a browser."""

from __future__ import annotations

import base64
import hashlib
import itertools
import json
import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest
from outcomes import outcome, trial
from synthetic_outcome import HOSTILE, many_variants, six_variants

from gptzoo.ablation.records.outcome import Outcome
from gptzoo.ablation.records.selection import RungTrial
from gptzoo.ablation.report.figures.figure import build_figures
from gptzoo.ablation.report.html_page import render_page
from gptzoo.ablation.report.tables import build_tables
from gptzoo.ablation.selection.halving import select
from gptzoo.ablation.statistics.analyse import analyse
from gptzoo.ablation.statistics.training import training_facts


def page_of(outcome: Outcome, **options: str) -> str:
    analysis = analyse(outcome)
    figures, tables = build_figures(outcome, analysis), build_tables(outcome, analysis)
    return render_page(outcome, analysis, figures, tables, **options)


class ParsedPage(HTMLParser):
    """The rows of the ranking, all texts, and all tags with their attributes."""

    def __init__(self, html: str):
        super().__init__()
        self.ranking: dict[str, list[str]] = {}
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.row: list[str] | None = None
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = dict(attrs)
        self.tags.append((tag, attributes))
        if tag == "tr":
            self.row = (
                self.ranking.setdefault(str(attributes["data-variant"]), []) if "data-variant" in attributes else None
            )
        if tag == "td" and self.row is not None:
            self.row.append(str(attributes["data-value"]))

    def handle_data(self, text: str) -> None:
        if self.lasttag not in ("script", "style"):
            self.texts.append(text)

    @property
    def policies(self) -> list[str]:
        return [
            attributes["content"] or ""
            for tag, attributes in self.tags
            if tag == "meta" and attributes.get("http-equiv")
        ]

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.texts).split())


def test_every_number_of_the_ranking_is_that_of_the_analysis() -> None:
    ablation = six_variants()
    analysis = analyse(ablation)
    ranking = ParsedPage(page_of(ablation)).ranking
    assert list(ranking) == [*analysis.ranking, "linear-none"]
    by_name = {comparison.variant: comparison for comparison in analysis.comparisons}
    for variant in ablation.variants:
        _, mean, n, difference, verdict, p, effect, detectable, parameters, flops = ranking[variant.name]
        estimate, comparison = analysis.ranking.get(variant.name), by_name.get(variant.name)
        assert mean == ("" if estimate is None else repr(estimate.value))
        assert int(n) == (estimate.n if estimate else 0)
        assert verdict == (comparison.verdict if comparison else "baseline")
        assert difference == (repr(comparison.difference.value) if comparison and comparison.difference else "")
        expected = (
            (comparison.p_adjusted, comparison.effect_size, comparison.detectable) if comparison else (None, None, None)
        )
        assert [p, effect, detectable] == ["" if value is None else repr(value) for value in expected]
        assert (int(parameters), float(flops)) == (variant.n_parameters, variant.flops_per_token)


def test_the_figure_data_equals_the_analysis() -> None:
    ablation = six_variants()
    analysis = analyse(ablation)
    (text,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', page_of(ablation), re.DOTALL)
    drawn = {figure["name"]: figure for figure in json.loads(text)["figures"]}
    assert list(drawn) == ["means", "differences", "curves", "main-effects", "interactions", "front"]
    for row in drawn["differences"]["rows"]:
        comparison = next(c for c in analysis.comparisons if c.variant == row["label"])
        assert comparison.difference is not None
        ends = [comparison.difference.value, comparison.difference.low, comparison.difference.high]
        assert [row["value"], row["low"], row["high"]] == pytest.approx(ends, rel=1e-5)
        assert row["verdict"] == comparison.verdict
    (band,) = [b for b in analysis.bands if (b.variant, b.metric, b.against) == ("sdpa-rope", "val/loss", "flops")]
    (shown,) = [
        b
        for b in drawn["curves"]["bands"]
        if (b["variant"], b["metric"], b["against"]) == ("sdpa-rope", "val/loss", "flops")
    ]
    assert shown["mean"] == pytest.approx(list(band.mean), rel=1e-5)
    assert {row["label"]: row["dots"] for row in drawn["means"]["rows"]}["sdpa-none"] == pytest.approx(
        list(ablation.endpoints("sdpa-none").values()), rel=1e-5
    )


def test_the_page_has_all_sentences_and_notes_and_a_headline() -> None:
    ablation = six_variants()
    analysis = analyse(ablation)
    text = ParsedPage(page_of(ablation)).text
    for sentence in (
        *(comparison.sentence for comparison in (*analysis.effects, *analysis.comparisons)),
        *analysis.notes,
    ):
        assert sentence in text
    assert len(analysis.effects) == 4  # three main ones, and the interaction that has its cells
    assert text.index(analysis.effects[0].sentence) < text.index(analysis.comparisons[0].sentence)
    n = sum(comparison.verdict == "cannot tell" for comparison in analysis.comparisons)
    assert n > 0
    assert f"{n} cannot be told apart from it" in text
    assert "t5: 't5' adds a score bias" in text


def test_the_findings_begin_with_what_was_trained_and_with_the_warnings() -> None:
    ablation = six_variants()
    analysis = analyse(ablation)
    text = ParsedPage(page_of(ablation)).text
    assert {warning.kind for warning in analysis.warnings} == {"failed seeds"}
    facts = training_facts(ablation)
    assert list(facts) == ["models", "device"]  # the data and the length are not recorded in this outcome
    assert all(fact in analysis.trained for fact in facts.values())
    places = [text.index(part) for part in (*facts.values(), "Findings", analysis.warnings[0].text)]
    assert places == sorted(places)
    assert places[-1] < text.index(analysis.comparisons[0].sentence)
    assert "Warnings" not in ParsedPage(page_of(many_variants(3))).text


def test_texts_are_escaped() -> None:
    ablation = six_variants()
    hostile = replace(
        ablation,
        name=HOSTILE,
        variants=[replace(variant, differences=[HOSTILE], residue=HOSTILE) for variant in ablation.variants],
        trials=[replace(trial, reason=HOSTILE) if trial.state == "failed" else trial for trial in ablation.trials],
        environment={"host": HOSTILE},
    )
    parsed = ParsedPage(page_of(hostile))
    tags = [tag for tag, _ in parsed.tags]
    assert tags.count("script") == 2
    assert not [tag for tag, attributes in parsed.tags if any(name.startswith("on") for name in attributes)]
    assert "img" not in tags
    assert " ".join(HOSTILE.split()) in parsed.text


def test_the_page_makes_no_requests_and_runs_only_its_own_script() -> None:
    html = page_of(six_variants())
    parsed = ParsedPage(html)
    for _, attributes in parsed.tags:
        for name in ("src", "href", "action"):
            value = attributes.get(name) or ""
            assert value == "" or value.startswith(("data:", "#")), value
        assert "style" not in attributes  # the content security policy forbids them
    assert "url(http" not in html
    (policy,) = parsed.policies
    assert policy.startswith("default-src 'none'; ")
    assert "connect-src" not in policy
    styles, scripts = re.findall(r"<style>(.*?)</style>", html, re.S), re.findall(r"<script>(.*?)</script>", html, re.S)
    for rule, (content,) in (("style-src", styles), ("script-src", scripts)):
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert f"{rule} 'sha256-{digest}'" in policy


def test_a_served_page_may_send_requests_to_its_server_only() -> None:
    (policy,) = ParsedPage(page_of(six_variants(), version="1")).policies
    assert policy.endswith("; connect-src 'self'")


def test_an_ablation_without_results_has_a_page() -> None:
    ablation = six_variants(done=0)
    waiting = replace(ablation, trials=[replace(t, state="waiting", reason="", rows=[]) for t in ablation.trials])
    text = ParsedPage(page_of(waiting)).text
    assert "Preliminary: 30 of 30 trials not done yet." in text
    assert "5 without data" in text


def test_finished_seeds_are_compared_while_others_run() -> None:
    text = ParsedPage(page_of(six_variants(done=0.6))).text
    assert "Preliminary: 10 of 30 trials not done yet." in text
    assert "3 pairs of runs" in text


@pytest.mark.parametrize("n", [1, 2, 40])
def test_the_page_has_a_row_for_each_of_any_number_of_variants(n: int) -> None:
    assert len(ParsedPage(page_of(many_variants(n))).ranking) == n


def test_with_one_seed_the_page_says_that_there_are_no_intervals() -> None:
    text = ParsedPage(page_of(outcome({"a": {1: 2.0}, "b": {1: 2.5}}))).text
    assert "1 cannot be told apart from it" in text
    assert "a single seed says nothing about the spread" in text


def test_a_page_of_six_variants_is_small_enough_to_mail() -> None:
    assert len(page_of(six_variants()).encode()) < 600_000


def test_stopped_variants_are_in_the_rung_tables_and_have_no_final_result() -> None:
    names = [f"v{index}" for index in range(5)]
    trials = {name: RungTrial("done", 3.125 + index) for index, name in enumerate(names)} | {
        "v4": RungTrial("failed", None, HOSTILE)
    }
    chosen = select(
        {name: [40] for name in names}, "v0", eta=3, seeds=[7], read_trial=lambda variant, seed, step: trials[variant]
    )
    losses = {"v0": {1: 2.0, 2: 2.1}, "v1": {1: 1.9, 2: 2.01}}
    ends = [trial(name, seed, loss) for name, of in losses.items() for seed, loss in of.items()]
    ablation = outcome({name: {} for name in names}, trials=ends, factorial=False, selection=chosen)
    html = page_of(ablation)
    parsed = ParsedPage(html)
    assert {name: row[1:4] for name, row in parsed.ranking.items() if name in ("v2", "v3", "v4")} == {
        name: ["", "0", ""] for name in ("v2", "v3", "v4")
    }
    text = " ".join(" ".join(parsed.texts).split())
    assert "Successive halving kept 1 of 5 variants, besides the baseline. Of 1 variant compared with v0" in text
    assert "Rung 1 of 1, step 40 : 5 variants, 1 promoted besides the baseline" in text.replace("40:", "40 :")
    assert "5.1250 stopped" in text
    assert "finalists of successive halving from 5 variants by the mean val/loss of seed 7" in text
    assert HOSTILE not in html
    rows = next(table for table in build_tables(ablation, analyse(ablation)) if table.name == "selection").rows
    assert {(row["rung"], row["step"]) for row in rows} == {(1, 40)}
    fates = ["on", "on", "stopped", "stopped", "failed"]
    assert [(row["variant"], row["fate"]) for row in rows] == list(zip(names, fates, strict=True))
    unfinished = replace(ablation, selection=replace(chosen, finalists=None))
    assert "The selection is in rung 1 of 1: no variants are compared yet." in page_of(unfinished)


def test_each_variant_says_which_family_it_is_exported_to() -> None:
    texts = ParsedPage(page_of(six_variants())).texts
    stated = [after for before, after in itertools.pairwise(texts) if before == "export to transformers"]
    assert sorted(set(stated)) == ["llama", "not: attention <linear> (closest: llama)"]
    assert len(stated) == 6


def headings(ablation: Outcome) -> list[str]:
    """Return the headings of the ranking."""
    return re.findall(r'<button type="button" title="[^"]*">(.*?)</button>', page_of(ablation))


def test_columns_of_the_ranking_without_any_value_are_left_out() -> None:
    single, several = headings(outcome({"a": {1: 2.0}, "b": {1: 2.5}})), headings(six_variants())
    assert [title for title in several if title not in single] == ["p", "effect (SD)", "detectable"]
    assert len(several) == 10


def with_costs_of(seconds: dict[str, list[tuple[int, float]]]) -> Outcome:
    """Return an ablation whose trials have a loss at some step, after some seconds of training at 100 tokens a step."""
    made = outcome({name: {1: 2.0, 2: 2.1} for name in seconds})
    trials = []
    for each in made.trials:
        rows, before = [{"step": 0, "val/loss": 5.0, "tokens": 0}], 0.0
        for step, after in seconds[each.variant]:
            tokens_per_second = 100 * (step - rows[-1]["step"]) / (after - before)
            rows.append(
                {
                    "step": step,
                    "val/loss": 5.0 - step / 100,
                    "tokens": 100 * step,
                    "tokens_per_second": tokens_per_second,
                }
            )
            before = after
        trials.append(replace(each, rows=rows))
    return replace(made, trials=trials)


def test_equal_costs_are_shown_only_where_they_say_more_than_the_ranking() -> None:
    ladder = [(10 * i, float(i)) for i in range(1, 11)]
    slower = [(step, 1.5 * at) for step, at in ladder]
    text = ParsedPage(page_of(with_costs_of({"fast": ladder, "slow": slower}))).text
    assert "Losses at equal cost" in text
    assert "An asterisk marks variants" in text
    assert "FLOPs at" not in text
    far_apart = ParsedPage(
        page_of(with_costs_of({"fast": [(50, 1.0), (100, 2.0)], "slow": [(50, 3.0), (100, 6.0)]}))
    ).text
    assert "Losses at equal cost" not in far_apart  # one variant alone would have a value
    assert "Losses at equal seconds of slow are not shown" in far_apart
    assert "Losses at equal cost" not in ParsedPage(page_of(with_costs_of({"one": ladder, "two": ladder}))).text


def test_curves_of_two_points_and_costs_of_two_variants_are_no_figures() -> None:
    def figures(ablation: Outcome) -> list[str]:
        return [figure.name for figure in build_figures(ablation, analyse(ablation))]

    assert figures(outcome({"a": {1: 2.0, 2: 2.1}, "b": {1: 2.5, 2: 2.6}})) == ["means", "differences"]
    assert figures(many_variants(2)) == ["means", "differences", "curves"]
    assert "front" in figures(six_variants())
