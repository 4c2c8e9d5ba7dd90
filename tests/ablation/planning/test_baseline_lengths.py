"""The baseline at other lengths: planned as complete runs, stored with the plan, counted, and never ranked."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

import gptzoo
from gptzoo.ablation.planning.folder import read_outcome, write_plan
from gptzoo.ablation.planning.plan import make_plan
from gptzoo.ablation.planning.plan_types import Plan
from gptzoo.ablation.report.write import write_report
from gptzoo.ablation.terminal.print_plan import plan_as_dict
from gptzoo.cli import main
from gptzoo.errors import SpecError
from gptzoo.utils.json_diff import differences

BASE: dict[str, Any] = {
    "model": {"vocab_size": 257, "context_length": 16, "d_model": 24, "n_layers": 1, "n_heads": 3},
    "corpus": {"type": "stories", "n_stories": 40},
    "batch_size": 4,
    "steps": 100,
    "device": "cpu",
    "schedule": {"type": "cosine", "warmup_fraction": 0.1},
}
FFN = {"model.ffn": ["mlp", "glu"]}
LOSSES = {0.5: 2.4, 1.0: 2.2, 2.0: 2.05}  # of the baseline by length
NOISE = {1: 0.01, 2: -0.01, 3: 0.004}


def plan_of(folder: Path, **fields: Any) -> Plan:
    spec = {"name": "plan", "base": BASE, "axes": FFN, "seeds": 3, "samples": False, **fields}
    return make_plan(gptzoo.load_ablation_spec(spec), folder)


def finish(folder: Path, failed: str = "") -> Plan:
    """Write an ablation whose trials have ended, except the one named `failed`, such as "mlp-x2 seed 2"."""
    plan = plan_of(folder, baseline_lengths=[0.5, 2])
    write_plan(folder, plan)
    losses = {length.name: LOSSES[length.multiple] for length in plan.baseline_lengths} | {"mlp": 2.2, "glu": 2.15}
    for number, trial in enumerate(plan.final_trials):
        run = folder / "trials" / trial.name
        run.mkdir(parents=True)
        if f"{trial.variant} seed {trial.seed}" == failed:
            (run / "attempts.json").write_text(json.dumps({"attempts": [], "given_up": "diverged: the loss is nan"}))
            continue
        loss = losses[trial.variant] + NOISE[trial.seed] + 0.001 * (number % 2)
        row = {"step": trial.spec.steps, "val/loss": loss, "tokens": 6400, "tokens_per_second": 640.0}
        (run / "metrics.jsonl").write_text(json.dumps(row) + "\n")
        (run / "status.json").write_text('{"status": "done"}')
    return plan


def status(folder: Path, *options: str) -> Result:
    return CliRunner().invoke(main, ["ablate", "status", str(folder), *options])


def test_each_length_is_the_run_of_the_baseline_with_other_steps_and_the_same_seeds(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, baseline_lengths=[2, 0.5, 1])
    own = {trial.seed: trial.spec.resolved() for trial in plan.trials if trial.variant == "mlp"}
    assert [(length.name, length.n_steps) for length in plan.baseline_lengths] == [("mlp-x0.5", 50), ("mlp-x2", 200)]
    for length in plan.baseline_lengths:
        assert [trial.seed for trial in length.trials] == [1, 2, 3]
        for trial in length.trials:
            changes = list(differences(own[trial.seed], trial.spec.resolved()))
            assert [(change.name, change.a, change.b) for change in changes] == [("$.steps", 100, length.n_steps)]
            assert trial.name.startswith(f"{length.name}-seed{trial.seed}-")


def test_trials_of_the_variants_do_not_depend_on_the_lengths(tmp_path: Path) -> None:
    names = [trial.name for trial in plan_of(tmp_path).trials]
    plan = plan_of(tmp_path, baseline_lengths=[0.5, 2])
    assert [trial.name for trial in plan.trials] == names
    assert [trial.name for trial in plan.final_trials[: len(names)]] == names
    assert len(plan.final_trials) == len(names) + 6
    assert [variant.name for variant in plan.variants] == ["mlp", "glu"]


@pytest.mark.parametrize(
    ("fields", "steps"),
    [
        ({"budget": {"tokens": 12_800}}, [100, 400]),
        ({"base": {**{k: v for k, v in BASE.items() if k != "steps"}, "tokens": 640}}, [5, 20]),
    ],
)
def test_lengths_are_multiples_of_what_the_baseline_is_trained_for(
    tmp_path: Path, fields: dict[str, Any], steps: list[int]
) -> None:
    plan = plan_of(tmp_path, baseline_lengths=[0.5, 2], **fields)
    assert [length.n_steps for length in plan.baseline_lengths] == steps


def test_a_baseline_that_is_not_tuned_yet_has_no_other_lengths_yet(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, baseline_lengths=[0.5, 2], tune={"factors": [0.5, 1]})
    assert plan.baseline_lengths == []
    assert plan_as_dict(plan, None)["baseline_lengths"] == []


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"baseline_lengths": [2]}, "expected at least two lengths besides 1, so that the loss is known at three"),
        ({"baseline_lengths": [1, 2]}, "expected at least two lengths besides 1"),
        ({"baseline_lengths": [0.5, 2, 2]}, "a length appears twice"),
        ({"baseline_lengths": [0, 2]}, "greater than 0"),
        ({"baseline_lengths": [0.004, 2]}, "0.004 times 100 steps is no step. Choose greater lengths"),
        ({"baseline_lengths": [0.5, 1.004, 2]}, "1 and 1.004 times 100 steps are the same number of steps, 100"),
        (
            {"baseline_lengths": [0.5, 2], "base": {**BASE, "early_stopping": {"patience": 2}}},
            "a run that stops by itself has another length than planned",
        ),
        ({"baseline_lengths": [0.001, 2], "tune": {"factors": [0.5, 1]}}, "is no step"),  # before the tuning runs
    ],
)
def test_lengths_that_give_no_curve_are_refused(tmp_path: Path, fields: dict[str, Any], reason: str) -> None:
    with pytest.raises(SpecError, match=r"baseline_lengths") as error:
        plan_of(tmp_path, **fields)
    assert reason in str(error.value)


def test_a_schedule_that_is_another_one_at_other_lengths_is_a_warning(tmp_path: Path) -> None:
    base = {**BASE, "schedule": {"type": "cosine", "warmup_steps": 40}}
    (warning,) = plan_of(tmp_path, baseline_lengths=[0.5, 2], base=base).warnings
    assert (warning.kind, warning.variants) == ("schedule", ["mlp"])
    assert "has another shape at other lengths (50 to 200 steps)" in warning.text
    assert "schedule.warmup_fraction" in warning.text
    assert plan_of(tmp_path, base=base).warnings == []
    assert plan_of(tmp_path, baseline_lengths=[0.5, 2]).warnings == []


def test_the_results_say_what_the_baseline_needs_as_text_and_json(tmp_path: Path) -> None:
    finish(tmp_path)
    outcome = read_outcome(tmp_path)
    assert [(of.multiple, of.steps, len(of.trials)) for of in outcome.baseline_lengths] == [(0.5, 50, 3), (2.0, 200, 3)]
    text = status(tmp_path)
    assert text.exit_code == 0
    assert "12 trials: 12 done" in text.output
    assert "The baseline mlp needs 1.2" in text.output
    assert " seconds. glu itself took 100 steps, 6,400 tokens, " in text.output
    printed = json.loads(status(tmp_path, "--json").output)
    cost = printed["verdicts"]["glu"]["cost_to_reach"]
    assert 1 < cost["multiple"]["low"] < cost["multiple"]["value"] < cost["multiple"]["high"] < 2
    assert cost["needed"]["seconds"]["value"] == pytest.approx(10 * cost["multiple"]["value"])
    assert cost["sentence"] in text.output
    assert {trial["variant"] for trial in printed["trials"]} == {"mlp", "glu"}  # never among the variants
    assert set(printed["verdicts"]) == {"glu"}
    assert [of["multiple"] for of in printed["baseline_lengths"]] == [0.5, 2.0]


def test_a_failed_run_of_another_length_is_counted_and_named(tmp_path: Path) -> None:
    finish(tmp_path, failed="mlp-x2 seed 2")
    text = status(tmp_path)
    assert text.exit_code == 1
    assert "failed: mlp-x2 seed 2: diverged: the loss is nan" in text.output
    assert "12 trials: 11 done, 1 failed" in text.output
    assert "1 of 6 runs of mlp at other lengths failed (mlp-x2 seed 2)" in text.output


def test_the_report_has_the_costs_in_findings_and_tables(tmp_path: Path) -> None:
    finish(tmp_path / "out")
    report = write_report(read_outcome(tmp_path / "out"), tmp_path / "report")
    (cost,) = report.analysis.costs
    page = report.page.read_text()
    assert f"<li>{cost.sentence}</li>" in page
    assert "What the baseline mlp needs to reach these losses" in page
    tables = tmp_path / "report" / "tables"
    lengths = (tables / "baseline_lengths.csv").read_text().splitlines()
    assert (lengths[0], len(lengths)) == ("multiple,steps,seed,state,reason,val/loss", 10)
    assert lengths[1].startswith("0.5,50,1,done,,")
    costs = (tables / "costs_to_reach.csv").read_text().splitlines()
    assert [line.split(",")[:2] for line in costs[1:]] == [
        ["glu", name] for name in ("multiple", "steps", "tokens", "flops", "seconds")
    ]
    markdown = (tables / "ranking.md").read_text().splitlines()
    value, low, high = (f"{number:.3g}x" for number in (cost.multiple.value, cost.multiple.low, cost.multiple.high))
    assert markdown[0].endswith("| cost to reach |")
    assert any(f"| {value} ({low} to {high}) |" in line for line in markdown if line.startswith("| glu "))
    assert "Cost to reach: the number of steps that mlp needs" in "\n".join(markdown)


def test_a_folder_of_an_older_version_has_no_other_lengths(tmp_path: Path) -> None:
    finish(tmp_path)
    design = json.loads((tmp_path / "variants.json").read_text())
    del design["baseline_lengths"], design["sha256"]
    (tmp_path / "variants.json").write_text(json.dumps(design))
    spec = json.loads((tmp_path / "ablation.json").read_text())
    del spec["baseline_lengths"]
    (tmp_path / "ablation.json").write_text(json.dumps(spec))
    outcome = read_outcome(tmp_path)
    assert outcome.baseline_lengths == []
    assert len(outcome.all_trials) == 6
    assert len(plan_of(tmp_path, baseline_lengths=[0.5, 2]).baseline_lengths) == 2  # they can be added


@pytest.mark.slow
def test_lengths_that_are_added_later_train_only_the_missing_runs(tmp_path: Path) -> None:
    base = {**BASE, "steps": 12, "eval": {"every": 100}}
    spec: dict[str, Any] = {"name": "real", "base": base, "axes": FFN, "seeds": 2, "samples": False}
    gptzoo.ablate(spec, tmp_path)
    before = {file: file.stat().st_mtime_ns for file in tmp_path.glob("trials/*/metrics.jsonl")}
    outcome = gptzoo.ablate({**spec, "baseline_lengths": [0.5, 2]}, tmp_path)
    after = {file: file.stat().st_mtime_ns for file in tmp_path.glob("trials/*/metrics.jsonl")}
    assert (len(before), len(after)) == (4, 8)
    assert all(after[file] == time for file, time in before.items())
    assert {trial.state for trial in outcome.all_trials} == {"done"}
    for length in outcome.baseline_lengths:
        for trial in length.trials:
            assert trial.rows[-1]["step"] == length.steps
            assert trial.last("val/loss") is not None
