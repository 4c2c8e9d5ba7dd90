"""Tables read back as the analysis has it; those for papers have the shape that TeX and Markdown want."""

from __future__ import annotations

import csv
import io
import re
from pathlib import Path
from typing import Any

import pytest
from made_up import six_variants

from gptzoo.ablation.report.tables import Table, tables
from gptzoo.ablation.report.typeset import latex, markdown, tex
from gptzoo.ablation.statistics.analyse import analyse

FOUND = six_variants()
ANALYSIS = analyse(FOUND)


def read_csv(table: Table) -> list[dict[str, Any]]:
    rows = csv.DictReader(io.StringIO(table.as_csv()))
    return [{name: table.columns[name](text) if text else None for name, text in row.items()} for row in rows]


@pytest.mark.parametrize("table", tables(FOUND, ANALYSIS), ids=lambda table: table.name)
def test_csv_and_parquet_read_back_equal(table: Table, tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    table.write_parquet(tmp_path / "table.parquet")
    expected = [{name: value if value != "" else None for name, value in row.items()} for row in table.rows]
    assert len(expected) > 0
    assert read_csv(table) == expected
    again = parquet.read_table(tmp_path / "table.parquet").to_pylist()
    assert [{name: value if value != "" else None for name, value in row.items()} for row in again] == expected


def test_the_ranking_holds_every_comparison() -> None:
    ranking, trials, effects, curves = tables(FOUND, ANALYSIS)
    rows = {row["variant"]: row for row in ranking.rows}
    for one in ANALYSIS.comparisons:
        row = rows[one.variant]
        assert (row["verdict"], row["p_adjusted"], row["more_seeds"]) == (one.verdict, one.p_adjusted, one.more_seeds)
        if one.difference is not None:
            ends = (one.difference.value, one.difference.low, one.difference.high)
            assert (row["difference"], row["difference_low"], row["difference_high"]) == ends
    assert rows["linear-none"]["rank"] is None
    assert rows["linear-none"]["failed"] == 5
    assert rows["linear-rope"]["model.attention"] == "linear"
    assert rows["sdpa-rope"]["at_equal_flops"] == ANALYSIS.matched["flops"].losses["sdpa-rope"].value
    assert len(trials.rows) == 30
    assert len(effects.rows) == len(ANALYSIS.effects)
    assert len(curves.rows) == sum(len(band.x) for band in ANALYSIS.bands)


def test_markdown_is_one_table_with_a_row_for_each_variant() -> None:
    lines = markdown(FOUND, ANALYSIS).splitlines()
    table = [line for line in lines if line.startswith("|")]
    assert len(table) == 2 + len(FOUND.variants)
    assert len({len(re.findall(r"(?<!\\)\|", line)) for line in table}) == 1
    assert lines[: len(table)] == table
    assert any(line.startswith("| sdpa-none |") and "worse" in line for line in table)


def test_latex_is_a_booktabs_table_with_as_many_cells_in_each_row() -> None:
    text = latex(FOUND, ANALYSIS)
    assert [text.count(rule) for rule in (r"\toprule", r"\midrule", r"\bottomrule")] == [1, 1, 1]
    rows = [line.strip() for line in text.splitlines() if line.endswith(r"\\")]
    assert len(rows) == 1 + len(FOUND.variants)
    columns = len(re.search(r"\\begin{tabular}{([lr]+)}", text)[1])  # type: ignore[index]
    assert {len(re.findall(r"(?<!\\)&", row)) + 1 for row in rows} == {columns}
    opened = re.sub(r"\\[{}]", "", text)
    assert opened.count("{") == opened.count("}")
    assert text.isascii()


def test_what_is_special_to_tex_is_escaped() -> None:
    assert tex(r"50% & $x_1 \ {a} ~^#<") == (
        r"50\% \& \$x\_1 \textbackslash{} \{a\} \textasciitilde{}\textasciicircum{}\#$<$"
    )
