"""Reasons to doubt a comparison, in the plan, the folder, the status and the report."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

import gptzoo
from gptzoo.ablation.planning.folder import check_same_ablation, write_plan
from gptzoo.ablation.planning.plan import make_plan
from gptzoo.ablation.planning.plan_types import Plan
from gptzoo.ablation.planning.seeds_seen import results_were_seen
from gptzoo.ablation.report.write import write_report
from gptzoo.ablation.terminal.print_outcome import outcome_as_dict, print_outcome
from gptzoo.ablation.terminal.print_plan import plan_as_dict, print_plan
from gptzoo.errors import FolderError, SpecError

BASE: dict[str, Any] = {
    "model": {"vocab_size": 257, "context_length": 16, "d_model": 24, "n_layers": 1, "n_heads": 3},
    "batch_size": 4,
    "steps": 100,
    "device": "cpu",
    "eval": {"every": 10},
}
DEPTH = {"model.n_layers": [1, 8]}
TUNE = {"factors": [1.0, 4.0], "seeds": [50]}


def plan_of(folder: Path, base: dict[str, Any] = BASE, **fields: Any) -> Plan:
    spec = {"name": "plan", "base": base, "axes": DEPTH, "seeds": 2, "samples": False, **fields}
    return make_plan(gptzoo.load_ablation_spec(spec), folder)


def with_schedule(**options: Any) -> dict[str, Any]:
    return {**BASE, "schedule": {"type": "cosine", **options}}


def finish(folder: Path, trial: Any, loss: float, warnings: dict[str, list[str]] | None = None) -> None:
    """Write the files of a trial that has ended."""
    run = folder / "trials" / trial.name
    run.mkdir(parents=True, exist_ok=True)
    (run / "metrics.jsonl").write_text(json.dumps({"step": 100, "val/loss": loss}) + "\n")
    (run / "status.json").write_text('{"status": "done"}')
    if warnings:
        (run / "warnings.json").write_text(json.dumps(warnings))


def status_text(folder: Path) -> str:
    console = Console(file=io.StringIO(), width=200)
    print_outcome(gptzoo.read_outcome(folder), console)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def plan_text(plan: Plan, folder: Path) -> str:
    console = Console(file=io.StringIO(), width=200)
    print_plan(plan, folder, None, console)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_a_warmup_that_is_another_share_of_each_run_is_in_the_plan_the_status_and_the_report(tmp_path: Path) -> None:
    flops = [variant.costs.flops_per_token for variant in plan_of(tmp_path / "free").variants]
    assert flops[0] is not None
    assert flops[1] is not None
    budget = {"flops": 16 * 64 * flops[1]}  # exactly sixteen steps of the deep variant
    n_steps = [round(budget["flops"] / 64 / per_token) for per_token in flops]
    assert n_steps[1] == 16 < 60 < n_steps[0]
    plan = plan_of(tmp_path, with_schedule(warmup_steps=15), budget=budget)
    unequal = f"15 of {n_steps[0]} steps ({15 / n_steps[0]:.0%}) of n_layers=1, and 15 of 16 steps (94%) of n_layers=8"
    impossible = "n_layers=8: schedule cosine: the learning rate rises until the last of 16 steps and never decays"
    assert len(plan.warnings) == 2
    assert all(impossible in warning.text or unequal in warning.text for warning in plan.warnings)
    printed = plan_as_dict(plan, None)
    assert printed["warnings"][:2] == [warning.text for warning in plan.warnings]
    assert [warning["kind"] for warning in printed["warning_records"][:2]] == ["schedule", "schedule"]
    write_plan(tmp_path, plan)
    write_report(gptzoo.read_outcome(tmp_path), tmp_path / "report")
    texts = [
        plan_text(plan, tmp_path),
        status_text(tmp_path),
        json.dumps(outcome_as_dict(gptzoo.read_outcome(tmp_path))["notes"]),
        (tmp_path / "report" / "report.html").read_text(),
        (tmp_path / "report" / "tables" / "ranking.md").read_text(),
    ]
    for text in texts:
        assert unequal in text
        assert impossible in text


def test_a_warmup_by_fraction_is_the_same_share_of_each_run(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, with_schedule(warmup_fraction=0.1), budget={"flops": 5e9})
    assert len({variant.n_steps for variant in plan.variants}) == 2
    assert plan.warnings == []


def test_variants_that_differ_in_their_warmup_on_purpose_are_not_reported(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, with_schedule(), axes={"schedule.warmup_steps": [0, 10, 40]})
    assert plan.warnings == []


def test_a_budget_of_few_steps_is_reported_with_what_each_variant_gets(tmp_path: Path) -> None:
    costs = [64 * (variant.costs.flops_per_token or 0) for variant in plan_of(tmp_path / "free").variants]
    flops = 2.6 * costs[1]
    n_steps = [round(flops / cost) for cost in costs]
    assert n_steps[1] == 3
    (warning,) = plan_of(tmp_path, with_schedule(), budget={"flops": flops}).warnings
    assert warning.kind == "budget"
    assert f"n_layers=8 {3 / 2.6:.0%} (3 steps)" in warning.text
    assert f"n_layers=1 gets {n_steps[0] * costs[0] / flops:.0%} of it ({n_steps[0]} steps)" in warning.text
    assert "all 115%" not in warning.text
    (warning,) = plan_of(tmp_path, with_schedule(), budget={"tokens": 100}).warnings
    assert "gets 128% of it (2 steps)" in warning.text


def test_the_same_warning_of_several_variants_is_one(tmp_path: Path) -> None:
    (warning,) = plan_of(tmp_path, with_schedule(warmup_steps=200)).warnings
    reason = "schedule cosine: the learning rate never reaches its peak in 100 steps"
    assert warning.text.startswith(f"all variants: {reason}")


def test_a_rung_within_the_warmup_is_reported(tmp_path: Path) -> None:
    axes = {"model.n_layers": [1, 2, 3, 4]}
    base = with_schedule(warmup_steps=30)
    (warning,) = plan_of(tmp_path, base, axes=axes, halving={"rungs": [0.2], "seeds": [50]}).warnings
    assert "rung 1 is at step 20, and the warmup ends at 30" in warning.text
    assert plan_of(tmp_path, base, axes=axes, halving={"rungs": [0.4], "seeds": [50]}).warnings == []


def test_one_variant_with_one_seed_is_refused_and_with_a_purpose_it_is_a_warning(tmp_path: Path) -> None:
    axes = {"model.n_layers": [1]}
    with pytest.raises(SpecError, match="one variant and one seed, so there is nothing to compare"):
        plan_of(tmp_path, axes=axes, seeds=1)
    (warning,) = plan_of(tmp_path, axes=axes).warnings
    assert "it only measures the noise between seeds" in warning.text
    (warning,) = plan_of(tmp_path, axes=axes, seeds=1, tune=TUNE).warnings
    assert "it only tunes this variant" in warning.text
    with pytest.raises(SpecError, match=r"1 excluded, for example: .*must divide d_model 24"):
        plan_of(tmp_path, axes={"model.n_heads": [3, 7]}, seeds=1)


def test_what_was_tuned_is_in_the_status_and_the_report(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, tune=TUNE)
    write_plan(tmp_path, plan)
    for trial, loss in zip(plan.tuning, (2.0, 1.5, 1.25, 2.0), strict=True):
        finish(tmp_path, trial, loss)
    plan = plan_of(tmp_path, tune=TUNE)
    write_plan(tmp_path, plan)
    outcome = gptzoo.read_outcome(tmp_path)
    for trial in plan.trials:
        finish(tmp_path, trial, 1.0)
    write_report(outcome, tmp_path / "report")
    page = (tmp_path / "report" / "report.html").read_text()
    table = (tmp_path / "report" / "tables" / "tuning.csv").read_text().splitlines()
    text = status_text(tmp_path)
    assert "optimizer.lr was tuned for each variant before the comparison, by the mean val/loss of seed 50:" in text
    assert "0.001: 2.0000  0.004: 1.5000" in text
    edges = "n_layers=1 (0.004, the highest of 2), n_layers=8 (0.001, the lowest of 2)"
    for shown in (text, page.replace("&#34;", '"')):
        assert f"The best optimizer.lr is at the edge of the grid of {edges}" in shown
        assert 'Set "extend": true in tune' in shown
    assert "0.001: 2.0000, 0.004: 1.5000" in page
    assert table[1:] == [
        "n_layers=1,optimizer.lr,0.001,2.0,0,",
        "n_layers=1,optimizer.lr,0.004,1.5,1,highest",
        "n_layers=8,optimizer.lr,0.001,1.25,1,lowest",
        "n_layers=8,optimizer.lr,0.004,2.0,0,",
    ]
    grids = outcome_as_dict(outcome)["tuning"]
    assert [(grid["variant"], grid["best"], grid["edge"]) for grid in grids] == [
        ("n_layers=1", 0.004, "highest"),
        ("n_layers=8", 0.001, "lowest"),
    ]


def test_the_plan_says_what_extending_may_cost(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, tune={**TUNE, "seeds": [50, 51], "extend": True})
    assert plan.n_extension_trials == 2 * 2 * 5
    assert "up to 20 more trials to extend the grids" in plan_text(plan, tmp_path)
    assert plan_of(tmp_path, tune=TUNE).n_extension_trials == 0


def test_extend_can_be_set_later_and_keeps_the_finished_trials(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, tune=TUNE)
    write_plan(tmp_path, plan)
    for trial, loss in zip(plan.tuning, (2.0, 1.5, 1.25, 2.0), strict=True):
        finish(tmp_path, trial, loss)
    write_plan(tmp_path, plan_of(tmp_path, tune=TUNE))
    extended = plan_of(tmp_path, tune={**TUNE, "extend": True})
    check_same_ablation(tmp_path, extended.spec)
    assert {trial.name for trial in plan.tuning} < {trial.name for trial in extended.tuning}
    assert sorted(trial.spec.optimizer.lr for trial in extended.tuning) == [0.00025, 0.001, 0.001, 0.004, 0.004, 0.016]
    assert not extended.trials
    other = plan_of(tmp_path, tune={**TUNE, "factors": [1.0, 2.0]})
    with pytest.raises(FolderError, match="contains a different ablation"):
        check_same_ablation(tmp_path, other.spec)


def test_a_folder_without_the_new_records_is_read_and_continued(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, tune=TUNE)
    write_plan(tmp_path, plan)
    spec, design = (json.loads((tmp_path / name).read_text()) for name in ("ablation.json", "variants.json"))
    del spec["tune"]["extend"], design["warnings"], design["warning_records"], design["sha256"]
    for variant in design["variants"]:
        del variant["tuning"], variant["steps"], variant["tokens"]
    (tmp_path / "ablation.json").write_text(json.dumps(spec))
    (tmp_path / "variants.json").write_text(json.dumps(design))
    outcome = gptzoo.read_outcome(tmp_path)
    assert [variant.tuning for variant in outcome.variants] == [None, None]
    assert outcome.warnings == []
    check_same_ablation(tmp_path, plan.spec)


def test_weights_that_a_trial_did_not_change_are_in_the_notes(tmp_path: Path) -> None:
    plan = plan_of(tmp_path)
    write_plan(tmp_path, plan)
    for trial in plan.trials:
        is_frozen = trial.variant == "n_layers=8"
        finish(tmp_path, trial, 1.0, {"weights": ["nothing is trained"], "learning_rate": ["…"]} if is_frozen else None)
    text = status_text(tmp_path)
    assert "Warning: n_layers=8, seeds 1, 2: nothing is trained." in text
    assert "n_layers=1, seed" not in text


@pytest.mark.slow
def test_seeds_that_are_added_after_results_were_seen_are_a_warning_that_looks_answers(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, seeds=2)
    write_plan(tmp_path, plan)
    assert plan_of(tmp_path, seeds=3).warnings == []  # no result was seen
    for trial in plan.trials:
        finish(tmp_path, trial, 1.0)
    assert plan_of(tmp_path, seeds=2).warnings == []
    (warning,) = plan_of(tmp_path, seeds=3).warnings
    assert (warning.kind, 'Set "looks": [2, 3] in the ablation' in warning.text) == ("seeds added", True)
    write_plan(tmp_path, plan_of(tmp_path, seeds=3))
    assert [w.kind for w in plan_of(tmp_path, seeds=3).warnings] == ["seeds added"]  # not only in the first plan
    assert [w.kind for w in gptzoo.read_outcome(tmp_path).warnings] == ["seeds added"]
    assert plan_of(tmp_path, seeds=3, looks=[2, 3]).warnings == []


def test_trials_that_failed_are_no_results_that_were_seen(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, seeds=2)
    write_plan(tmp_path, plan)
    assert not results_were_seen(tmp_path)
    for trial in plan.trials:
        run = tmp_path / "trials" / trial.name
        run.mkdir(parents=True)
        (run / "attempts.json").write_text(json.dumps({"attempts": [], "given_up": "diverged: the loss is nan"}))
    assert not results_were_seen(tmp_path)
    assert plan_of(tmp_path, seeds=3).warnings == []
    finish(tmp_path, plan.trials[0], 2.0)
    assert results_were_seen(tmp_path)
    assert [warning.kind for warning in plan_of(tmp_path, seeds=3).warnings] == ["seeds added"]


def test_a_damaged_plan_does_not_say_whether_results_were_seen(tmp_path: Path) -> None:
    (tmp_path / "variants.json").write_text('{"trials": [{"seed": 1}]}')
    with pytest.raises(FolderError, match=r"variants\.json: has another form than expected"):
        results_were_seen(tmp_path)
