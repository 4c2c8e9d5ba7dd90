"""Tables for programs read back as written; tables for papers are valid Markdown and LaTeX."""

from __future__ import annotations

import csv
import io
import re
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest
from outcomes import ACCURACY, BITS, scored
from scipy import stats
from synthetic_outcome import six_variants

from gptzoo.ablation.report.paper_tables import PaperTable, build_paper_tables, escape_tex
from gptzoo.ablation.report.tables import Table, build_tables
from gptzoo.ablation.statistics.analyse import analyse

OUTCOME = six_variants()
ANALYSIS = analyse(OUTCOME)
SCORED = scored(num_fewshot=5, limit=200)


def read_csv(table: Table) -> list[dict[str, Any]]:
    rows = csv.DictReader(io.StringIO(table.as_csv()))
    return [{name: table.columns[name](text) if text else None for name, text in row.items()} for row in rows]


@pytest.mark.parametrize("table", build_tables(OUTCOME, ANALYSIS), ids=lambda table: table.name)
def test_csv_and_parquet_read_back_as_written(table: Table, tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    table.write_parquet(tmp_path / "table.parquet")
    expected = [{name: value if value != "" else None for name, value in row.items()} for row in table.rows]
    assert len(expected) > 0
    assert read_csv(table) == expected
    from_parquet = parquet.read_table(tmp_path / "table.parquet").to_pylist()
    assert [{name: value if value != "" else None for name, value in row.items()} for row in from_parquet] == expected


def test_the_ranking_has_every_comparison() -> None:
    ranking, trials, effects, curves = build_tables(OUTCOME, ANALYSIS)
    rows = {row["variant"]: row for row in ranking.rows}
    for comparison in ANALYSIS.comparisons:
        row = rows[comparison.variant]
        assert (row["verdict"], row["p_adjusted"], row["more_seeds"]) == (
            comparison.verdict,
            comparison.p_adjusted,
            comparison.more_seeds,
        )
        if comparison.difference is not None:
            ends = (comparison.difference.value, comparison.difference.low, comparison.difference.high)
            assert (row["difference"], row["difference_low"], row["difference_high"]) == ends
    assert rows["linear-none"]["rank"] is None
    assert rows["linear-none"]["failed"] == 5
    assert rows["linear-rope"]["model.attention"] == "linear"
    assert rows["sdpa-rope"]["at_equal_flops"] == ANALYSIS.matched["flops"].losses["sdpa-rope"].value
    assert len(trials.rows) == 30
    assert len(effects.rows) == len(ANALYSIS.effects)
    assert len(curves.rows) == sum(len(band.x) for band in ANALYSIS.bands)


def test_markdown_has_one_row_per_variant() -> None:
    (ranking,) = build_paper_tables(OUTCOME, ANALYSIS)
    lines = ranking.as_markdown().splitlines()
    table = [line for line in lines if line.startswith("|")]
    assert len(table) == 2 + len(OUTCOME.variants)
    assert len({len(re.findall(r"(?<!\\)\|", line)) for line in table}) == 1
    assert lines[: len(table)] == table
    assert any(line.startswith("| sdpa-none |") and "worse" in line for line in table)


@pytest.mark.parametrize(
    "table",
    [*build_paper_tables(OUTCOME, ANALYSIS), *build_paper_tables(SCORED, analyse(SCORED))],
    ids=lambda table: table.label,
)
def test_latex_is_a_valid_booktabs_table(table: PaperTable) -> None:
    text = table.as_latex()
    assert [text.count(rule) for rule in (r"\toprule", r"\midrule", r"\bottomrule")] == [1, 1, 1]
    rows = [line.strip() for line in text.splitlines() if line.endswith(r"\\")]
    assert len(rows) == 1 + len(table.rows)
    columns = len(re.search(r"\\begin{tabular}{([lr]+)}", text)[1])  # type: ignore[index]
    assert {len(re.findall(r"(?<!\\)&", row)) + 1 for row in rows} == {columns}
    without_escapes = re.sub(r"\\[{}]", "", text)
    assert without_escapes.count("{") == without_escapes.count("}")
    assert text.isascii()


def test_scores_on_tasks_are_a_table_with_intervals() -> None:
    """The interval of a mean is Student's, that of a difference the paired one at Holm's level. scipy is the oracle."""
    _, table = build_paper_tables(SCORED, analyse(SCORED))
    rows = {(row[0], row[2]): row for row in table.rows}
    assert list(rows) == [(task, name) for task in ("quiz", "page") for name in ("base", "good", "bad")]
    assert [row[1] for row in table.rows] == ["acc ↑"] * 3 + ["bits_per_byte ↓"] * 3
    mean = stats.ttest_1samp(BITS["good"], 0).confidence_interval(0.95)
    assert rows["page", "good"][3] == f"{fmean(BITS['good']):.2f} ({mean.low:.2f} to {mean.high:.2f})"
    # The smallest p values are those of (page, good), then (quiz, good), tested at 0.05 / 4 and 0.05 / 3.
    difference = stats.ttest_rel(ACCURACY["good"], ACCURACY["base"]).confidence_interval(1 - 0.05 / 3)
    assert rows["quiz", "good"][5] == f"{0.105:.3f} ({difference.low:.3f} to {difference.high:.3f})"
    assert (rows["quiz", "base"][5], rows["quiz", "base"][7]) == ("–", "baseline")
    assert (rows["page", "bad"][4], rows["page", "bad"][7]) == ("3/4", "worse")
    assert "4 comparisons (Holm" in table.methods
    assert "with 5 examples before each question, on the first 200 documents of each task" in table.methods
    assert "bad seed 3 has no scores on some tasks: out of memory" in table.as_markdown()


def test_special_characters_of_tex_are_escaped() -> None:
    assert escape_tex(r"50% & $x_1 \ {a} ~^#<") == (
        r"50\% \& \$x\_1 \textbackslash{} \{a\} \textasciitilde{}\textasciicircum{}\#$<$"
    )
