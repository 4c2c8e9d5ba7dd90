"""gptzoo ablate: the plan, the runs, what was found, and the exit code."""

from __future__ import annotations

import json
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


def spec(tmp_path: Path, **fields: Any) -> Path:
    """An ablation of four trials of a moment, with some fields changed."""
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


def test_a_dry_run_tells_the_plan_and_writes_nothing(tmp_path: Path) -> None:
    file = spec(tmp_path, axes={"model.n_heads": [2, 3], "model.norm": ["pre_ln", "post_ln"]})
    plan = data(file, "--out", tmp_path / "out", "--dry-run")
    assert [variant["name"] for variant in plan["variants"]] == ["n_heads=2-pre_ln", "n_heads=2-post_ln"]
    reason = "$.model.n_heads: d_model 16 does not divide into 3 heads"
    assert [exclusion["reason"] for exclusion in plan["exclusions"]] == [reason] * 2
    for variant in plan["variants"]:
        model = gptzoo.load_run_spec({**variant["spec"], "seed": 1}).model.model_copy(update={"vocab_size": 257})
        built = gptzoo.build(model, device="meta")
        assert variant["n_parameters"] == sum(parameter.numel() for parameter in built.parameters())
        assert (variant["steps"], variant["tokens"]) == (4, 4 * 4 * 16)
    assert not (tmp_path / "out").exists()
    told = run(file, "--out", tmp_path / "out", "--dry-run").stdout
    assert "2 variants x 2 seeds = 4 trials" in told
    assert "3 heads" in told


def test_trials_run_and_their_outcome_is_that_of_the_runs(tmp_path: Path) -> None:
    told = data(spec(tmp_path), "--out", tmp_path / "out")
    assert told["states"] == {"done": 4}
    outcome = gptzoo.read_outcome(tmp_path / "out")
    assert (outcome.baseline, outcome.paired, outcome.factorial) == ("pre_ln", True, True)
    variant = next(variant for variant in outcome.variants if variant.name == "post_ln")
    alone = gptzoo.train({**variant.spec, "seed": 2}, tmp_path / "alone", quiet=True)
    assert outcome.endpoints("post_ln")[2] == alone.metrics["val/loss"]
    assert all(trial.sample for trial in outcome.trials)
    assert outcome.environment["device"].startswith("cpu")
    assert data("status", tmp_path / "out") == told
    assert "4 done" in run("status", tmp_path / "out").stdout
    assert "no ablation's folder" in run("status", tmp_path, code=2).stderr


def test_a_dry_run_of_a_selection_tells_its_rungs_and_what_it_saves(tmp_path: Path) -> None:
    base = {**BASE, "steps": 18, "eval": {"every": 2}}
    axes = {"model.norm": ["pre_ln", "post_ln"], "model.bias": [True, False], "model.activation": ["gelu", "relu"]}
    file = spec(tmp_path, base=base, axes=axes, seeds=5, halving={"seeds": [50, 51], "rungs": 2})
    plan = data(file, "--out", tmp_path / "out", "--dry-run")
    assert plan["halving"]["contestants"] == [7, 2, 1]
    assert plan["halving"]["trials"] == [8 * 2, 3 * 2, 2 * 5]
    assert set(map(tuple, plan["halving"]["rungs"].values())) == {(2, 6)}
    assert (plan["halving"]["steps"], plan["halving"]["steps_without"]) == (16 * 2 + 6 * 4 + 10 * 18, 8 * 5 * 18)
    assert {trial["variant"] for trial in plan["trials"]} == {plan["baseline"]}  # of nobody else is it known
    told = run(file, "--out", tmp_path / "out", "--dry-run").stdout
    assert "rung 1, step 2: 7 variants and the baseline on seeds 50, 51: 16 trials" in told
    assert "rung 2, step 6: 2 variants and the baseline on seeds 50, 51: 6 trials" in told
    assert "the end: 1 variant and the baseline on 5 seeds of their own: 10 trials" in told
    assert "about 236 steps in all; every variant to the end on every seed is 720: 67% saved" in told


def test_a_selection_runs_and_what_it_stopped_is_told(tmp_path: Path) -> None:
    base = {**BASE, "eval": {"every": 2}}
    rates = {"choices": {"fine": 0.001, "good": 0.01, "absurd": 1e30, "less": 0.0001}}
    file = spec(tmp_path, base=base, axes={"optimizer.lr": rates}, seeds=1, halving={"rungs": [0.5]}, samples=False)
    told = data(file, "--out", tmp_path / "out", code=1)
    (rung,) = told["selection"]["rungs"]
    fates = [(entry["variant"], entry["step"], entry["fate"]) for entry in rung["entries"]]
    assert fates == [("good", 2, "on"), ("fine", 2, "on"), ("less", 2, "stopped"), ("absurd", 2, "failed")]
    assert told["selection"]["finalists"] == ["good"]
    assert [(trial["variant"], trial["seed"], trial["state"]) for trial in told["trials"]] == [
        ("fine", 1, "done"),
        ("good", 1, "done"),
    ]
    assert {name: one["verdict"] for name, one in told["verdicts"].items()} == {
        "good": "cannot tell",
        "less": "stopped",
        "absurd": "no data",
    }
    shown = run("status", tmp_path / "out", code=1).stdout
    assert "stopped at rung 1, step 2: val/loss" in shown
    assert "failed: absurd before rung 1, step 2: seed 1000: diverged: " in shown


@pytest.mark.slow
def test_only_what_is_new_is_trained_when_seeds_and_choices_are_added(tmp_path: Path) -> None:
    out = tmp_path / "out"
    run(spec(tmp_path, seeds=1), "--out", out)
    before = {file: file.stat().st_mtime_ns for file in out.glob("trials/*/metrics.jsonl")}
    assert len(before) == 2
    axes = {"model.norm": ["pre_ln", "post_ln"], "model.activation": ["gelu", "relu"]}
    told = data(spec(tmp_path, seeds=2, axes=axes), "--out", out)
    assert told["states"] == {"done": 8}
    assert len(list(out.glob("trials/*"))) == 8  # the two that were there have another name now, and are found
    assert {file: file.stat().st_mtime_ns for file in before} == before


@pytest.mark.slow
def test_another_base_is_refused_in_the_same_folder(tmp_path: Path) -> None:
    out = tmp_path / "out"
    run(spec(tmp_path), "--out", out, "--dry-run")
    run(spec(tmp_path), "--out", out, "--set", "seeds=1", "--set", "base.steps=2")
    told = run(spec(tmp_path), "--out", out, code=2)
    assert "$.base.steps was 2, is 4; choose another --out" in told.stderr


@pytest.mark.slow
def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    out = tmp_path / "page.txt" / "out"  # below a file no folder can be
    told = run(spec(tmp_path), "--out", out, code=2).stderr
    assert told.endswith(f"{out}: cannot be written: Not a directory; choose another --out\n")


def test_trials_that_fail_are_told_and_the_exit_code_says_so(tmp_path: Path) -> None:
    axes = {"optimizer.lr": {"choices": {"fine": 0.001, "absurd": 1e30}}}
    told = data(spec(tmp_path, axes=axes, seeds=1), "--out", tmp_path / "out", code=1)
    assert told["states"] == {"done": 1, "failed": 1}
    failed = told["trials"][1]
    assert (failed["variant"], failed["state"]) == ("absurd", "failed")
    assert failed["reason"].startswith("diverged: ")
    assert data("status", tmp_path / "out", code=1)["states"] == told["states"]


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"axes": {"seed": [1, 2]}}, "$.axes.seed: is no axis: give seeds"),
        ({"axes": {"steps": [1, 2]}}, "$.axes.steps: is no axis: give a budget"),
        ({"mode": "random"}, "$.n_variants: say how many variants to draw"),
        ({"mode": "grid", "n_variants": 3}, "$.n_variants: is for random, latin and tpe"),
        ({"seeds": [1, 1]}, "$.seeds: a seed is there twice"),
        ({"base": {**BASE, "stepz": 1}}, "$.stepz: no field named 'stepz'; did you mean 'steps'?"),
        ({"base": "nowhere.json"}, "$.base: no run spec at 'nowhere.json'"),
        ({"budget": {"tokens": 1, "flops": 1.0}}, "$.budget: give one of tokens, flops and seconds"),
        ({"axes": {"tokenizer": ["byte", "char"]}}, "$.metric: 'val/loss' is per token"),
        ({"halving": {"seeds": [1]}}, "$.halving.seeds: variants are compared with seed 1; select with others"),
        ({"halving": {"seeds": [7, 7]}}, "$.halving.seeds: a seed is there twice"),
        ({"halving": {"eta": 1}}, "$.halving.eta: "),
        (
            {"halving": {"rungs": [0.5, 0.2]}},
            "$.halving.rungs: give the shares of the run in rising order",
        ),
        ({"halving": {"rungs": [0.5, 1.5]}}, "$.halving.rungs"),
        ({"halving": {"rungs": 0}}, "$.halving.rungs"),
        (
            {"halving": {}},
            "$.halving.rungs: rung 1 is at step 4, as the next one is, for",
        ),
        ({"halving": {}, "tune": {}}, "$.halving: tuning would train every variant to its end"),
        (
            {"halving": {"rungs": [0.5]}, "base": {**BASE, "eval": {"every": 1}, "early_stopping": {"patience": 1}}},
            "$.early_stopping: a run that ends by itself has no loss at a later rung",
        ),
        ({"mode": "tpe"}, "$.n_variants: say how many variants to draw"),
        ({"mode": "tpe", "n_variants": 3}, "$.halving: mode tpe judges what it suggests at the first rung"),
        ({"n_at_once": 3}, "$.n_at_once: is for tpe"),
        ({"axes": {"model.dropout": {"low": 0.0, "high": 0.3}}}, "$.axes.model.dropout: a range is for mode tpe"),
        ({"axes": {"model.dropout": {"low": 0.3, "high": 0.3}}}, "the range from 0.3 to 0.3 is empty"),
        ({"axes": {"model.dropout": {"low": 0.0, "high": 0.3, "log": True}}}, "a range with logarithms begins above 0"),
        ({"axes": {"model.dropout": {"low": 0.3}}}, "an axis has either choices, or a range from low to high"),
        ({"axes": {"model.dropout": {"choices": [0.1], "log": True}}}, "is of a range; give low and high"),
        ({"executor": "cloud"}, "$.executor: no executor named 'cloud'"),
    ],
)
def test_a_spec_that_cannot_be_is_refused_with_its_place(tmp_path: Path, fields: Any, reason: str) -> None:
    assert reason in run(spec(tmp_path, **fields), "--out", tmp_path / "out", code=2).stderr


def test_a_base_by_path_is_relative_to_the_ablation_and_its_errors_name_its_file(tmp_path: Path) -> None:
    (tmp_path / "base.json").write_text(json.dumps(BASE))
    plan = data(spec(tmp_path, base="base.json"), "--out", tmp_path / "out", "--dry-run")
    assert plan["variants"][0]["spec"]["corpus"]["path"] == str(tmp_path / "page.txt")
    (tmp_path / "base.json").write_text(json.dumps({**BASE, "stepz": 1}))
    assert "base.json: $.stepz" in run(spec(tmp_path, base="base.json"), "--dry-run", code=2).stderr


@pytest.mark.parametrize("name", ["../../elsewhere", "/elsewhere", ".."])
def test_a_name_is_no_path_out_of_the_folder_of_ablations(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = tmp_path / "a" / "b"
    here.mkdir(parents=True)
    monkeypatch.chdir(here)
    monkeypatch.setattr("gptzoo.ablation.ablate.ablate", lambda spec, folder, **how: folders.append(folder) or 1 / 0)
    folders: list[Path] = []
    CliRunner().invoke(main, ["ablate", str(spec(tmp_path, name=name))])
    assert [folder.resolve().parent for folder in folders] == [here / "ablations"]
