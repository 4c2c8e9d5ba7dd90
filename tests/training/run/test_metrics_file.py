"""metrics.jsonl: values that are not finite, and the last row of a run in progress."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from gptzoo.training.run.metrics_file import read_last_row, replace_non_finite


def test_numbers_that_are_not_finite_become_null_also_in_lists() -> None:
    row = replace_non_finite({"step": 1, "model/load": [0.5, float("nan"), [float("inf")]], "lr": float("nan")})
    assert json.loads(json.dumps(row, allow_nan=False)) == {"step": 1, "model/load": [0.5, None, [None]], "lr": None}


@pytest.mark.parametrize("n_before", [0, 1, 40])
@pytest.mark.parametrize("n_experts", [1, 350, 5000])  # rows shorter and longer than the first read
@pytest.mark.parametrize("incomplete_row", ["", '{"step": 99, "model/lo'])
def test_the_last_complete_row_is_read(n_before: int, n_experts: int, incomplete_row: str, tmp_path: Path) -> None:
    rows = [{"step": step, "model/load": [0.12345678] * n_experts} for step in range(n_before + 1)]
    metrics = tmp_path / "metrics.jsonl"
    metrics.write_text("".join(json.dumps(row) + "\n" for row in rows) + incomplete_row)
    assert read_last_row(metrics) == rows[-1]


def test_there_is_no_last_row_before_the_first_is_complete(tmp_path: Path) -> None:
    metrics = tmp_path / "metrics.jsonl"
    assert read_last_row(metrics) == {}
    metrics.write_text('{"step": 0')
    assert read_last_row(metrics) == {}
