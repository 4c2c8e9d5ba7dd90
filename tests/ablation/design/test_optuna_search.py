"""Suggestions follow from what was found and from nothing else, and a search can be killed anywhere."""

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
from gptzoo.ablation.ablate import _suggest
from gptzoo.ablation.design import optuna_search as search
from gptzoo.ablation.design.costs import Ledger
from gptzoo.ablation.design.optuna_search import suggest
from gptzoo.ablation.planning.folder import write_plan
from gptzoo.ablation.planning.plan import make_plan
from gptzoo.ablation.planning.plan_types import Plan
from gptzoo.errors import InputError
from gptzoo.spec.ablation import AxisSpec

AXES = {
    "optimizer.lr": AxisSpec(low=1e-5, high=1.0, log=True),
    "model.dropout": AxisSpec(low=0.0, high=0.5),
    "model.n_layers": AxisSpec(low=1, high=6),
    "model.norm": AxisSpec(choices=("pre_ln", "post_ln")),
}
LABELS: dict[str, list[str]] = {name: list(axis.choices or ()) for name, axis in AXES.items()}


def loss(one: Any) -> float:
    """Best at a learning rate of 0.003, four layers, pre_ln and no dropout."""
    away = abs(math.log10(one["optimizer.lr"] / 0.003)) + abs(one["model.n_layers"] - 4) / 3
    return float(away + one["model.dropout"] + 0.3 * (one["model.norm"] == "post_ln"))


def found(n: int, *, seed: int = 0, at_once: int = 4) -> list[tuple[Any, float | None]]:
    told: list[tuple[Any, float | None]] = []
    while len(told) < n:
        batch = suggest(AXES, LABELS, told, seed=seed, n=at_once)
        told += [(one, None if one["optimizer.lr"] > 0.1 else loss(one)) for one in batch]  # which diverge
    return told


def test_suggestions_are_within_the_axes_and_are_numbers_that_a_label_holds() -> None:
    for one, _ in found(24):
        assert 1e-5 <= one["optimizer.lr"] <= 1.0
        assert one["optimizer.lr"] == float(f"{one['optimizer.lr']:.4g}")
        assert 0.0 <= one["model.dropout"] <= 0.5
        assert one["model.n_layers"] in range(1, 7)
        assert type(one["model.n_layers"]) is int
        assert one["model.norm"] in ("pre_ln", "post_ln")


def test_a_batch_is_a_function_of_what_was_told_and_of_the_seed() -> None:
    told = found(20)
    first, again, other = (suggest(AXES, LABELS, told, seed=seed, n=3) for seed in (0, 0, 1))
    assert first == again
    assert first != other
    assert len({json.dumps(one) for one in first}) == 3  # which differ, though each is asked before any is told
    assert suggest(AXES, LABELS, told[:-1], seed=0, n=3) != first


def test_it_suggests_what_is_better_the_more_it_knows_and_shuns_what_fails() -> None:
    early, late, failed = [], [], []
    for seed in range(4):
        told = found(48, seed=seed)
        early += [loss(one) for one, _ in told[:12]]
        late += [loss(one) for one, _ in told[-12:]]
        failed += [mean is None for _, mean in told[-12:]]
    assert fmean(late) < 0.6 * fmean(early)
    assert fmean(failed) < 0.1  # of draws from all of the range it is a fifth


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
KNOWN = Ledger()  # of what models cost, which takes the most time here


def plan_of(folder: Path, **fields: Any) -> Plan:
    spec = {"name": "search", "base": BASE, "axes": SPACE, "mode": "tpe", "n_variants": 10, "n_at_once": 3, "seeds": 2}
    spec |= {"halving": {"rungs": [0.1, 0.5]}, **fields}
    return make_plan(gptzoo.load_ablation_spec(spec), folder, ledger=KNOWN)


def train(folder: Path, plan: Plan, which: Iterable[int]) -> None:
    """Some of the trials that are next, as if they had been: a loss that is a function of the spec."""
    for index in which:
        trial = plan.selecting[index]
        run = folder / "trials" / trial.name
        run.mkdir(parents=True, exist_ok=True)
        value = abs(math.log10(trial.spec.optimizer.lr / 0.01)) + trial.seed * 1e-6
        rows = [json.dumps({"step": step, "val/loss": value}) + "\n" for step in range((trial.until or 0) + 1)]
        (run / "metrics.jsonl").write_text("".join(rows))
        (run / "status.json").write_text('{"status": "paused"}')


def searched(folder: Path, draw: random.Random | None, **fields: Any) -> Plan:
    """A whole selection; `draw` has trials end in any order, some at a time, and plans anew from files each time."""
    plan = plan_of(folder, **fields)
    while plan.selecting:
        write_plan(folder, plan)
        states = [(folder / "trials" / trial.name / "status.json").exists() for trial in plan.selecting]
        rung = plan.selecting[0].rung
        todo = [i for i, there in enumerate(states) if not there or rung != 1]
        if plan.wants_suggestions:
            _suggest(plan, folder)
        else:
            train(folder, plan, todo if draw is None else draw.sample(todo, draw.randrange(1, len(todo) + 1)))
        plan = plan_of(folder, **fields)
    return plan


def test_however_trials_end_and_whoever_begins_anew_the_search_is_the_same(tmp_path: Path) -> None:
    whole = searched(tmp_path / "whole", None)
    kept = (tmp_path / "whole" / search.FILE).read_bytes()
    assert whole.selection is not None
    assert len(whole.variants) == 11  # and the baseline
    assert any("does not divide into 5 heads" in exclusion.reason for exclusion in whole.exclusions)
    for number in range(3):
        folder = tmp_path / str(number)
        plan = searched(folder, random.Random(number))
        assert (folder / search.FILE).read_bytes() == kept
        assert plan.selection == whole.selection
        assert [trial.name for trial in plan.trials] == [trial.name for trial in whole.trials]


def test_a_search_goes_on_where_more_variants_are_wanted(tmp_path: Path) -> None:
    searched(tmp_path, None, n_variants=4)
    before = json.loads((tmp_path / search.FILE).read_text())["suggestions"]
    plan = searched(tmp_path, None, n_variants=9)
    assert len(plan.variants) == 10
    assert json.loads((tmp_path / search.FILE).read_text())["suggestions"][: len(before)] == before
    narrow = {**SPACE, "model.norm": ["pre_ln"]}
    assert all(one.choices["model.norm"] == "pre_ln" for one in plan_of(tmp_path, axes=narrow, n_variants=9).variants)


def test_a_search_of_a_space_with_few_points_ends_when_there_are_no_more(tmp_path: Path) -> None:
    few = {"model.norm": ["pre_ln", "post_ln"], "model.n_heads": {"low": 1, "high": 3}}
    plan = searched(tmp_path, None, axes=few, n_variants=50, n_at_once=25)
    assert len(plan.variants) == 6


def test_another_runner_does_not_suggest_twice(tmp_path: Path) -> None:
    plan = plan_of(tmp_path)
    write_plan(tmp_path, plan)
    _suggest(plan, tmp_path)
    kept = (tmp_path / search.FILE).read_bytes()
    _suggest(plan, tmp_path)
    assert (tmp_path / search.FILE).read_bytes() == kept
    (tmp_path / search.FILE).write_text("[]")
    with pytest.raises(gptzoo.FolderError, match=r"suggestions\.json: cannot be read"):
        plan_of(tmp_path)


def test_without_optuna_it_says_what_to_install_and_reads_what_is_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    searched(tmp_path / "done", None)
    monkeypatch.setattr(search.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"mode 'tpe' needs the package optuna: pip install 'gptzoo\[optuna\]'"):
        plan_of(tmp_path / "new")
    assert plan_of(tmp_path / "done").selection == plan_of(tmp_path / "done").selection
