"""Metrics that a corpus declares are accuracies, which an ablation does not take for losses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from support import admit
from toy_task import Echo, echo_run

import gptzoo
from gptzoo import registry


@pytest.mark.parametrize("metric", ["val/accuracy", "val/long/accuracy"])
def test_a_metric_that_is_higher_for_better_models_is_refused(
    metric: str, tmp_path: Path, fresh_registry: registry.Registry
) -> None:
    admit(Echo)
    design: dict[str, Any] = {"base": echo_run(), "axes": {"model.norm": ["pre_ln", "post_ln"]}, "metric": metric}
    with pytest.raises(gptzoo.SpecError, match=r"\$\.metric: .* is higher for better models; .* Use val/loss"):
        gptzoo.ablate(design, tmp_path / "out", plan_only=True)
