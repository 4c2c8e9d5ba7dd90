"""Suggestions depend on earlier results only, and a search can be killed at any time."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Iterable
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest

import gptzoo
from gptzoo.ablation.ablate import _suggest_variants
from gptzoo.ablation.design import optuna_search as search
from gptzoo.ablation.design.costs import CostCache
from gptzoo.ablation.design.optuna_search import suggest
from gptzoo.ablation.planning.folder import write_plan
from gptzoo.ablation.planning.plan import make_plan
from gptzoo.ablation.planning.plan_types import Plan
from gptzoo.errors import InputError
from gptzoo.spec.ablation_axes import AxisSpec

AXES = {
    "optimizer.lr": AxisSpec(low=1e-5, high=1.0, log=True),
    "model.dropout": AxisSpec(low=0.0, high=0.5),
    "model.n_layers": AxisSpec(low=1, high=6),
    "model.norm": AxisSpec(choices=("pre_ln", "post_ln")),
}
LABELS: dict[str, list[str]] = {name: list(axis.choices or ()) for name, axis in AXES.items()}


def loss(suggestion: Any) -> float:
    """Return a loss that is lowest at a learning rate of 0.003, four layers, pre_ln and no dropout."""
    distance = abs(math.log10(suggestion["optimizer.lr"] / 0.003)) + abs(suggestion["model.n_layers"] - 4) / 3
    return float(distance + suggestion["model.dropout"] + 0.3 * (suggestion["model.norm"] == "post_ln"))


def search_results(n: int, *, seed: int = 0, batch_size: int = 4) -> list[tuple[Any, float | None]]:
    """Search until there are n suggestions. Suggestions with a learning rate above 0.1 diverge."""
    results: list[tuple[Any, float | None]] = []
    while len(results) < n:
        batch = suggest(AXES, LABELS, results, seed=seed, n=batch_size)
        results += [
            (suggestion, None if suggestion["optimizer.lr"] > 0.1 else loss(suggestion)) for suggestion in batch
        ]
    return results


def test_suggestions_are_within_the_axes_and_their_numbers_are_short() -> None:
    for suggestion, _ in search_results(24):
        assert 1e-5 <= suggestion["optimizer.lr"] <= 1.0
        assert suggestion["optimizer.lr"] == float(f"{suggestion['optimizer.lr']:.4g}")
        assert 0.0 <= suggestion["model.dropout"] <= 0.5
        assert suggestion["model.n_layers"] in range(1, 7)
        assert type(suggestion["model.n_layers"]) is int
        assert suggestion["model.norm"] in ("pre_ln", "post_ln")


def test_a_batch_depends_on_earlier_results_and_the_seed() -> None:
    results = search_results(20)
    first, again, other = (suggest(AXES, LABELS, results, seed=seed, n=3) for seed in (0, 0, 1))
    assert first == again
    assert first != other
    assert len({json.dumps(suggestion) for suggestion in first}) == 3  # suggestions of one batch differ
    assert suggest(AXES, LABELS, results[:-1], seed=0, n=3) != first


def test_later_suggestions_are_better_and_fail_less_often() -> None:
    early, late, failed = [], [], []
    for seed in range(4):
        results = search_results(48, seed=seed)
        early += [loss(suggestion) for suggestion, _ in results[:12]]
        late += [loss(suggestion) for suggestion, _ in results[-12:]]
        failed += [mean is None for _, mean in results[-12:]]
    assert fmean(late) < 0.6 * fmean(early)
    assert fmean(failed) < 0.1  # a fifth of uniform draws would fail


BASE: dict[str, Any] = {
    "model": {"vocab_size": 257, "context_length": 16, "d_model": 24, "n_layers": 2, "n_heads": 2},
    "batch_size": 4,
    "steps": 100,
    "eval": {"every": 10},
    "device": "cpu",
}
SPACE: dict[str, Any] = {
    "optimizer.lr": {"low": 1e-4, "high": 1e-1, "log": True},
    "model.n_heads": {"low": 1, "high": 5},
    "model.norm": ["pre_ln", "post_ln"],
}
COSTS = CostCache()  # shared, because counting costs takes most of the time of these tests


def plan_of(folder: Path, **fields: Any) -> Plan:
    spec = {"name": "search", "base": BASE, "axes": SPACE, "mode": "tpe", "n_variants": 10, "n_at_once": 3, "seeds": 2}
    spec |= {"halving": {"rungs": [0.1, 0.5]}, **fields}
    return make_plan(gptzoo.load_ablation_spec(spec), folder, costs=COSTS)


def train(folder: Path, plan: Plan, which: Iterable[int]) -> None:
    """Write the results of some of the next trials, without training: the loss is a function of the spec."""
    for index in which:
        trial = plan.selecting[index]
        run = folder / "trials" / trial.name
        run.mkdir(parents=True, exist_ok=True)
        value = abs(math.log10(trial.spec.optimizer.lr / 0.01)) + trial.seed * 1e-6
        rows = [json.dumps({"step": step, "val/loss": value}) + "\n" for step in range((trial.pause_at or 0) + 1)]
        (run / "metrics.jsonl").write_text("".join(rows))
        (run / "status.json").write_text('{"status": "paused"}')


def run_search(folder: Path, draw: random.Random | None, **fields: Any) -> Plan:
    """Run a complete selection, planning again from the files in each round.

    With `draw`, trials end in random order.
    """
    plan = plan_of(folder, **fields)
    while plan.selecting:
        write_plan(folder, plan)
        states = [(folder / "trials" / trial.name / "status.json").exists() for trial in plan.selecting]
        rung = plan.selecting[0].rung
        todo = [i for i, is_done in enumerate(states) if not is_done or rung != 1]
        if plan.wants_suggestions:
            _suggest_variants(plan, folder)
        else:
            train(folder, plan, todo if draw is None else draw.sample(todo, draw.randrange(1, len(todo) + 1)))
        plan = plan_of(folder, **fields)
    return plan


@pytest.mark.slow
def test_a_search_does_not_depend_on_the_order_in_which_trials_end(tmp_path: Path) -> None:
    whole = run_search(tmp_path / "whole", None)
    stored = (tmp_path / "whole" / search.FILE_NAME).read_bytes()
    assert whole.selection is not None
    assert len(whole.variants) == 11  # ten suggested variants and the baseline
    assert any("must divide d_model 24, got 5" in exclusion.reason for exclusion in whole.exclusions)
    for number in range(3):
        folder = tmp_path / str(number)
        plan = run_search(folder, random.Random(number))
        assert (folder / search.FILE_NAME).read_bytes() == stored
        assert plan.selection == whole.selection
        assert [trial.name for trial in plan.trials] == [trial.name for trial in whole.trials]


def test_a_search_continues_when_more_variants_are_wanted(tmp_path: Path) -> None:
    run_search(tmp_path, None, n_variants=4)
    before = json.loads((tmp_path / search.FILE_NAME).read_text())["suggestions"]
    plan = run_search(tmp_path, None, n_variants=9)
    assert len(plan.variants) == 10
    assert json.loads((tmp_path / search.FILE_NAME).read_text())["suggestions"][: len(before)] == before
    narrow = {**SPACE, "model.norm": ["pre_ln"]}
    narrow_plan = plan_of(tmp_path, axes=narrow, n_variants=9)
    assert all(variant.choices["model.norm"] == "pre_ln" for variant in narrow_plan.variants)


def test_a_search_in_a_small_space_ends_when_there_are_no_more_variants(tmp_path: Path) -> None:
    few = {"model.norm": ["pre_ln", "post_ln"], "model.n_heads": {"low": 1, "high": 3}}
    plan = run_search(tmp_path, None, axes=few, n_variants=50, n_at_once=25)
    assert len(plan.variants) == 6


def test_a_second_runner_does_not_suggest_the_same_batch_again(tmp_path: Path) -> None:
    plan = plan_of(tmp_path)
    write_plan(tmp_path, plan)
    _suggest_variants(plan, tmp_path)
    stored = (tmp_path / search.FILE_NAME).read_bytes()
    _suggest_variants(plan, tmp_path)
    assert (tmp_path / search.FILE_NAME).read_bytes() == stored
    (tmp_path / search.FILE_NAME).write_text("[]")
    with pytest.raises(gptzoo.FolderError, match=r"suggestions\.json: cannot be read"):
        plan_of(tmp_path)


def test_without_optuna_a_finished_search_can_be_read_and_the_error_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_search(tmp_path / "done", None)
    monkeypatch.setattr(search.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"mode 'tpe' needs the package optuna: pip install 'gptzoo\[optuna\]'"):
        plan_of(tmp_path / "new")
    assert plan_of(tmp_path / "done").selection == plan_of(tmp_path / "done").selection
