"""Variants that take the factor which others have chosen on their grids."""

from __future__ import annotations

from typing import Any

import pytest

import gptzoo
from gptzoo.ablation.selection.learning_rate_grid import GridResult
from gptzoo.ablation.selection.transferred_value import transferred_value
from gptzoo.errors import SpecError
from gptzoo.spec.ablation_fairness import TuneSpec
from gptzoo.spec.run import RunSpec

TUNE = TuneSpec()


def run_with(rate: float, **fields: Any) -> RunSpec:
    model = {"vocab_size": 257, "context_length": 16, "d_model": 24, "n_layers": 2, "n_heads": 3}
    return gptzoo.load_run_spec(
        {"model": model, "batch_size": 4, "steps": 100, "optimizer": {"type": "adamw", "lr": rate}, **fields}
    )


def chose(before: float, best: float) -> tuple[RunSpec, GridResult]:
    return run_with(before), GridResult(run_with(best), True, "")


def test_the_own_value_is_multiplied_by_the_geometric_mean_of_the_factors() -> None:
    result = transferred_value(run_with(1e-3), TUNE, {"a": chose(6e-3, 12e-3), "b": chose(4e-3, 32e-3)})
    assert result.complete
    assert result.spec is not None
    assert result.spec.optimizer.lr == pytest.approx(1e-3 * (2 * 8) ** 0.5)
    assert result.description == "optimizer.lr 0.004, 4 times its own, from a, b"
    assert result.trials == ()


def test_a_variant_waits_for_all_that_it_follows() -> None:
    result = transferred_value(
        run_with(1e-3), TUNE, {"a": chose(1.0, 2.0), "b": (run_with(1.0), GridResult(None, False, ""))}
    )
    assert (result.spec, result.complete) == (None, False)
    assert result.description == "optimizer.lr follows a, b, which are being tuned"


def test_a_variant_fails_with_those_that_it_follows_and_names_them() -> None:
    result = transferred_value(
        run_with(1e-3), TUNE, {"a": chose(1.0, 2.0), "b": (run_with(1.0), GridResult(None, True, ""))}
    )
    assert (result.spec, result.complete) == (None, True)
    assert result.description == "optimizer.lr follows b, where all values of the grid failed"


def test_a_whole_number_stays_one() -> None:
    tune = TuneSpec(field="schedule.warmup_steps")
    runs = [run_with(1e-3, schedule={"type": "cosine", "warmup_steps": n}) for n in (10, 15, 7)]
    result = transferred_value(runs[2], tune, {"a": (runs[0], GridResult(runs[1], True, ""))})
    assert result.spec is not None
    assert result.spec.schedule.warmup_steps == 10  # 7 x 1.5 = 10.5, rounded to even


def test_a_product_beyond_the_bounds_of_the_field_is_refused() -> None:
    tune = TuneSpec(field="model.dropout")
    low, high = (
        gptzoo.load_run_spec(
            {**run_with(1e-3).resolved(), "model": {**run_with(1e-3).resolved()["model"], "dropout": p}}
        )
        for p in (0.1, 0.5)
    )
    with pytest.raises(SpecError, match=r"dropout"):
        transferred_value(high, tune, {"a": (low, GridResult(high, True, ""))})


def test_a_chain_of_variants_is_refused() -> None:
    with pytest.raises(ValueError, match="b follows a, which is not tuned itself"):
        TuneSpec(transfer={"a": ("c",), "b": ("a",)})
