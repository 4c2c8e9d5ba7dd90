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
        ({"mode": "grid", "n_variants": 3}, "$.n_variants: is for random and latin"),
        ({"seeds": [1, 1]}, "$.seeds: a seed is there twice"),
        ({"base": {**BASE, "stepz": 1}}, "$.stepz: no field named 'stepz'; did you mean 'steps'?"),
        ({"base": "nowhere.json"}, "$.base: no run spec at 'nowhere.json'"),
        ({"budget": {"tokens": 1, "flops": 1.0}}, "$.budget: give one of tokens, flops and seconds"),
        ({"axes": {"tokenizer": ["byte", "char"]}}, "$.metric: 'val/loss' is per token"),
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
