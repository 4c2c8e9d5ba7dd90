"""gptzoo ablate: the plan, the runs, the outcome and the exit code."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

import gptzoo
from gptzoo.cli import main

BASE: dict[str, Any] = {
    "model": {"context_length": 16, "d_model": 16, "n_layers": 1, "n_heads": 2},
    "batch_size": 4,
    "steps": 4,
    "eval": {"every": 100},
    "sample": {"max_new_tokens": 4},
    "corpus": {"type": "text", "path": "page.txt"},
    "device": "cpu",
}


def write_spec(tmp_path: Path, **fields: Any) -> Path:
    """Write an ablation of four trials that take a moment, with some fields changed."""
    file = tmp_path / "ablation.json"
    (tmp_path / "page.txt").write_text("the quick brown fox jumps over the lazy dog. " * 40)
    whole = {"name": "tiny", "base": BASE, "axes": {"model.norm": ["pre_ln", "post_ln"]}, "seeds": 2, **fields}
    file.write_text(json.dumps(whole))
    return file


def run(*arguments: Any, code: int = 0) -> Result:
    result = CliRunner().invoke(main, ["ablate", *map(str, arguments)])
    assert result.exit_code == code, result.output
    return result


def data(*arguments: Any, code: int = 0) -> Any:
    return json.loads(run(*arguments, "--json", code=code).stdout)


def test_a_dry_run_prints_the_plan_and_writes_nothing(tmp_path: Path) -> None:
    file = write_spec(tmp_path, axes={"model.n_heads": [2, 3], "model.norm": ["pre_ln", "post_ln"]})
    plan = data(file, "--out", tmp_path / "out", "--dry-run")
    assert [variant["name"] for variant in plan["variants"]] == ["n_heads=2-pre_ln", "n_heads=2-post_ln"]
    reason = "$.model.n_heads: must divide d_model 16, got 3"
    assert [exclusion["reason"] for exclusion in plan["exclusions"]] == [reason] * 2
    for variant in plan["variants"]:
        model = gptzoo.load_run_spec({**variant["spec"], "seed": 1}).model.model_copy(update={"vocab_size": 257})
        built = gptzoo.build(model, device="meta")
        assert variant["n_parameters"] == sum(parameter.numel() for parameter in built.parameters())
        assert (variant["steps"], variant["tokens"]) == (4, 4 * 4 * 16)
    assert not (tmp_path / "out").exists()
    text = run(file, "--out", tmp_path / "out", "--dry-run").stdout
    assert "2 variants x 2 seeds = 4 trials" in text
    assert f"excluded: 2 combinations of choices: {reason}" in text
    assert "estimated time: " in text
    assert "estimated memory: " in text
    assert re.search(
        r"smallest detectable difference of val/loss: \d+\.\d+ standard deviations over seeds, with power", text
    )


def test_options_may_come_before_the_spec(tmp_path: Path) -> None:
    file = write_spec(tmp_path)
    assert len(data("--dry-run", file)["variants"]) == 2
    assert "Did you mean '--dry-run'?" in run("--dry-rnu", file, code=2).output


def test_the_outcome_of_a_trial_is_that_of_the_same_run_by_itself(tmp_path: Path) -> None:
    printed = data(write_spec(tmp_path), "--out", tmp_path / "out")
    assert printed["states"] == {"done": 4}
    outcome = gptzoo.read_outcome(tmp_path / "out")
    assert (outcome.baseline, outcome.paired, outcome.factorial) == ("pre_ln", True, True)
    variant = next(variant for variant in outcome.variants if variant.name == "post_ln")
    alone = gptzoo.train({**variant.spec, "seed": 2}, tmp_path / "alone", quiet=True)
    assert outcome.endpoints("post_ln")[2] == alone.metrics["val/loss"]
    assert all(trial.sample for trial in outcome.trials)
    assert outcome.environment["device"].startswith("cpu")
    assert data("status", tmp_path / "out") == printed
    assert "4 done" in run("status", tmp_path / "out").stdout
    assert "is not the folder of an ablation" in run("status", tmp_path, code=2).stderr


@pytest.mark.slow
def test_a_dry_run_with_halving_prints_the_rungs_and_the_steps_saved(tmp_path: Path) -> None:
    base = {**BASE, "steps": 18, "eval": {"every": 2}}
    axes = {"model.norm": ["pre_ln", "post_ln"], "model.bias": [True, False], "model.activation": ["gelu", "relu"]}
    file = write_spec(tmp_path, base=base, axes=axes, seeds=5, halving={"seeds": [50, 51], "rungs": 2})
    plan = data(file, "--out", tmp_path / "out", "--dry-run")
    assert plan["halving"]["contestants"] == [7, 2, 1]
    assert plan["halving"]["trials"] == [8 * 2, 3 * 2, 2 * 5]
    assert set(map(tuple, plan["halving"]["rungs"].values())) == {(2, 6)}
    assert (plan["halving"]["steps"], plan["halving"]["steps_without"]) == (16 * 2 + 6 * 4 + 10 * 18, 8 * 5 * 18)
    assert {trial["variant"] for trial in plan["trials"]} == {plan["baseline"]}  # the finalists are not known yet
    text = run(file, "--out", tmp_path / "out", "--dry-run").stdout
    assert "rung 1, step 2: 7 variants and the baseline on seeds 50, 51: 16 trials" in text
    assert "rung 2, step 6: 2 variants and the baseline on seeds 50, 51: 6 trials" in text
    assert "final comparison: 1 variant and the baseline on 5 seeds not used in the rungs: 10 trials" in text
    assert "about 236 steps in total instead of 720 without halving: 67% saved" in text


@pytest.mark.slow
def test_a_selection_runs_and_reports_the_stopped_variants(tmp_path: Path) -> None:
    base = {**BASE, "eval": {"every": 2}}
    rates = {"choices": {"fine": 0.001, "good": 0.01, "absurd": 1e30, "less": 0.0001}}
    file = write_spec(
        tmp_path, base=base, axes={"optimizer.lr": rates}, seeds=1, halving={"rungs": [0.5]}, samples=False
    )
    printed = data(file, "--out", tmp_path / "out", code=1)
    (rung,) = printed["selection"]["rungs"]
    fates = [(entry["variant"], entry["step"], entry["fate"]) for entry in rung["entries"]]
    assert fates == [("good", 2, "on"), ("fine", 2, "on"), ("less", 2, "stopped"), ("absurd", 2, "failed")]
    assert printed["selection"]["finalists"] == ["good"]
    assert [(trial["variant"], trial["seed"], trial["state"]) for trial in printed["trials"]] == [
        ("fine", 1, "done"),
        ("good", 1, "done"),
    ]
    assert {name: verdict["verdict"] for name, verdict in printed["verdicts"].items()} == {
        "good": "cannot tell",
        "less": "stopped",
        "absurd": "no data",
    }
    text = run("status", tmp_path / "out", code=1).stdout
    assert "stopped at rung 1, step 2: val/loss" in text
    assert "failed: absurd before rung 1, step 2: seed 1000: diverged: " in text


@pytest.mark.slow
def test_only_new_trials_run_when_seeds_and_choices_are_added(tmp_path: Path) -> None:
    out = tmp_path / "out"
    run(write_spec(tmp_path, seeds=1), "--out", out)
    before = {file: file.stat().st_mtime_ns for file in out.glob("trials/*/metrics.jsonl")}
    assert len(before) == 2
    axes = {"model.norm": ["pre_ln", "post_ln"], "model.activation": ["gelu", "relu"]}
    printed = data(write_spec(tmp_path, seeds=2, axes=axes), "--out", out)
    assert printed["states"] == {"done": 8}
    assert len(list(out.glob("trials/*"))) == 8  # two variants have new names, and their old folders are found
    assert {file: file.stat().st_mtime_ns for file in before} == before


@pytest.mark.slow
def test_an_ablation_with_another_base_is_refused_in_the_same_folder(tmp_path: Path) -> None:
    out = tmp_path / "out"
    run(write_spec(tmp_path), "--out", out, "--dry-run")
    run(write_spec(tmp_path), "--out", out, "--set", "seeds=1", "--set", "base.steps=2")
    stderr = run(write_spec(tmp_path), "--out", out, code=2).stderr
    assert "$.base.steps was 2, is 4; choose another --out" in stderr


@pytest.mark.slow
def test_the_error_for_a_folder_that_cannot_be_written_names_the_folder(tmp_path: Path) -> None:
    out = tmp_path / "page.txt" / "out"  # a file cannot contain a folder
    stderr = run(write_spec(tmp_path), "--out", out, code=2).stderr
    assert stderr.endswith(f"{out}: cannot be written: Not a directory; choose another --out\n")


def test_failed_trials_are_reported_and_the_exit_code_is_1(tmp_path: Path) -> None:
    axes = {"optimizer.lr": {"choices": {"fine": 0.001, "absurd": 1e30}}}
    printed = data(write_spec(tmp_path, axes=axes, seeds=1), "--out", tmp_path / "out", code=1)
    assert printed["states"] == {"done": 1, "failed": 1}
    failed = printed["trials"][1]
    assert (failed["variant"], failed["state"]) == ("absurd", "failed")
    assert failed["reason"].startswith("diverged: ")
    assert data("status", tmp_path / "out", code=1)["states"] == printed["states"]


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"axes": {"seed": [1, 2]}}, "$.axes.seed: cannot be an axis. Give seeds."),
        ({"axes": {"steps": [1, 2]}}, "$.axes.steps: cannot be an axis. Give a budget"),
        ({"mode": "random"}, "$.n_variants: is required for mode random"),
        ({"mode": "grid", "n_variants": 3}, "$.n_variants: is for the modes random, latin and tpe, not for grid"),
        ({"seeds": [1, 1]}, "$.seeds: a seed appears twice"),
        ({"base": {**BASE, "stepz": 1}}, "$.base.stepz: no field named 'stepz'; did you mean 'steps'?"),
        ({"base": "nowhere.json"}, "$.base: no run spec at 'nowhere.json'"),
        ({"budget": {"tokens": 1, "flops": 1.0}}, "$.budget: expected exactly one of tokens, flops and seconds"),
        ({"axes": {"tokenizer": ["byte", "char"]}}, "$.metric: 'val/loss' is a loss per token"),
        ({"halving": {"seeds": [1]}}, "$.halving.seeds: seed 1 is a seed of the comparison. Choose others."),
        ({"halving": {"seeds": [7, 7]}}, "$.halving.seeds: a seed appears twice"),
        ({"halving": {"eta": 1}}, "$.halving.eta: "),
        (
            {"halving": {"rungs": [0.5, 0.2]}},
            "$.halving.rungs: expected increasing fractions of the run",
        ),
        ({"halving": {"rungs": [0.5, 1.5]}}, "$.halving.rungs"),
        ({"halving": {"rungs": 0}}, "$.halving.rungs"),
        (
            {"halving": {}},
            "$.halving.rungs: rung 1 is at step 4, like the next rung, because",
        ),
        ({"halving": {}, "tune": {}}, "$.halving: cannot be combined with tune, which trains every variant to the end"),
        (
            {"halving": {"rungs": [0.5]}, "base": {**BASE, "eval": {"every": 1}, "early_stopping": {"patience": 1}}},
            "$.early_stopping: a run that stops by itself has no loss at later rungs",
        ),
        ({"mode": "tpe"}, "$.n_variants: is required for mode tpe"),
        ({"mode": "tpe", "n_variants": 3}, "$.halving: is required for mode tpe, which uses results of the first rung"),
        ({"n_at_once": 3}, "$.n_at_once: is for mode tpe, not for grid"),
        (
            {"axes": {"model.dropout": {"low": 0.0, "high": 0.3}}},
            "$.axes.model.dropout: a range is for mode tpe, not for grid",
        ),
        (
            {"axes": {"model.dropout": {"low": 0.3, "high": 0.3}}},
            "$.axes.model.dropout.high: must be above low 0.3, got 0.3",
        ),
        (
            {"axes": {"model.dropout": {"low": 0.0, "high": 0.3, "log": True}}},
            "$.axes.model.dropout.low: must be above 0 if log is true, got 0.0",
        ),
        ({"axes": {"model.dropout": {"low": 0.3}}}, "an axis needs either choices, or a range with low and high"),
        (
            {"axes": {"model.dropout": {"choices": [0.1], "log": True}}},
            "$.axes.model.dropout.log: requires a range. Give low and high.",
        ),
        ({"executor": "cloud"}, "$.executor: no executor named 'cloud'"),
    ],
)
def test_the_error_for_an_invalid_spec_names_the_place(tmp_path: Path, fields: Any, reason: str) -> None:
    assert reason in run(write_spec(tmp_path, **fields), "--out", tmp_path / "out", code=2).stderr


def test_the_path_of_a_base_is_relative_to_the_ablation_and_errors_name_its_file(tmp_path: Path) -> None:
    (tmp_path / "base.json").write_text(json.dumps(BASE))
    plan = data(write_spec(tmp_path, base="base.json"), "--out", tmp_path / "out", "--dry-run")
    assert plan["variants"][0]["spec"]["corpus"]["path"] == str(tmp_path / "page.txt")
    (tmp_path / "base.json").write_text(json.dumps({**BASE, "stepz": 1}))
    assert "base.json: $.stepz" in run(write_spec(tmp_path, base="base.json"), "--dry-run", code=2).stderr


@pytest.mark.parametrize("name", ["../../elsewhere", "/elsewhere", ".."])
def test_a_name_cannot_be_a_path_out_of_the_folder_of_ablations(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    working = tmp_path / "a" / "b"
    working.mkdir(parents=True)
    monkeypatch.chdir(working)
    monkeypatch.setattr(
        "gptzoo.ablation.ablate.ablate", lambda spec, folder, **options: folders.append(folder) or 1 / 0
    )
    folders: list[Path] = []
    CliRunner().invoke(main, ["ablate", str(write_spec(tmp_path, name=name))])
    assert [folder.resolve().parent for folder in folders] == [working / "ablations"]
