"""metrics.jsonl takes whatever components measure, and its last row is found however long rows are."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from gptzoo.training.run.metrics_file import read_last_row, replace_non_finite


def test_a_list_may_hold_numbers_that_are_not_finite_as_any_metric_may() -> None:
    row = replace_non_finite({"step": 1, "model/load": [0.5, float("nan"), [float("inf")]], "lr": float("nan")})
    assert json.loads(json.dumps(row, allow_nan=False)) == {"step": 1, "model/load": [0.5, None, [None]], "lr": None}


@pytest.mark.parametrize("n_before", [0, 1, 40])
@pytest.mark.parametrize("n_experts", [1, 350, 5000])  # rows of 27 bytes, just over and far over what is read at first
@pytest.mark.parametrize("half_written", ["", '{"step": 99, "model/lo'])
def test_it_is_the_last_whole_one(n_before: int, n_experts: int, half_written: str, tmp_path: Path) -> None:
    rows = [{"step": step, "model/load": [0.12345678] * n_experts} for step in range(n_before + 1)]
    metrics = tmp_path / "metrics.jsonl"
    metrics.write_text("".join(json.dumps(row) + "\n" for row in rows) + half_written)
    assert read_last_row(metrics) == rows[-1]


def test_there_is_none_before_the_first_is_whole(tmp_path: Path) -> None:
    metrics = tmp_path / "metrics.jsonl"
    assert read_last_row(metrics) == {}
    metrics.write_text('{"step": 0')
    assert read_last_row(metrics) == {}
