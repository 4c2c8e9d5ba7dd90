"""metrics.jsonl takes whatever components measure."""

from __future__ import annotations

import json

from gptzoo.training.metrics_file import without_nan


def test_a_list_may_hold_numbers_that_are_not_finite_as_any_metric_may() -> None:
    row = without_nan({"step": 1, "model/load": [0.5, float("nan"), [float("inf")]], "lr": float("nan")})
    assert json.loads(json.dumps(row, allow_nan=False)) == {"step": 1, "model/load": [0.5, None, [None]], "lr": None}
