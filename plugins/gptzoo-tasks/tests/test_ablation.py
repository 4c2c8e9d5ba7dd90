"""An ablation over tasks, trained for real: comparisons within a task, and results that equal those of the trials."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import gptzoo
from gptzoo.ablation.planning.plan import make_plan
from gptzoo.ablation.report.write import write_report

CONFIGS = sorted((Path(__file__).parents[1] / "configs" / "ablations").glob("*.json"))


@pytest.mark.slow
@pytest.mark.parametrize("config", CONFIGS, ids=lambda path: path.stem)
def test_a_config_compares_each_model_with_the_baseline_of_its_task(config: Path, tmp_path: Path) -> None:
    if "gated_delta" not in gptzoo.registered("attention"):
        pytest.skip("needs gptzoo-recurrent")
    plan = make_plan(gptzoo.load_ablation_spec(config), tmp_path)
    assert plan.task_axes == ["corpus"]
    assert not plan.exclusions
    assert {variant.spec.corpus.type for variant in plan.variants} == set(plan.axes["corpus"])
    for variant in plan.variants:
        reference = next(v for v in plan.variants if v.name == (variant.reference or plan.baseline))
        assert reference.spec.corpus == variant.spec.corpus
        assert all(metric.state_bytes for metric in variant.task_metrics)


@pytest.mark.slow
def test_results_of_an_ablation_over_tasks_are_those_of_its_trials(tmp_path: Path) -> None:
    design: dict[str, Any] = json.loads(CONFIGS[0].read_text())
    design["base"] |= {"steps": 6, "eval": {"every": 3}, "checkpoint": {"every": 6}, "batch_size": 8}
    design["base"]["model"] |= {"d_model": 16, "n_layers": 1}
    choices = design["axes"]["corpus"]["choices"]
    del choices["selective_copying"]
    for choice in choices.values():
        choice["n_val"] = 20
    design["axes"]["model.attention"] = {"choices": {"full": "sdpa", "window": {"type": "sdpa", "window": 4}}}
    design |= {"seeds": 2, "executor": {"type": "local", "n_workers": 1}}
    design["base"]["schedule"]["warmup_steps"] = 2
    outcome = gptzoo.ablate(design, tmp_path / "out")
    report = write_report(outcome, tmp_path / "report")
    assert len(report.analysis.comparisons) == 2
    for result in report.analysis.tasks:
        for seed, value in result.values.items():
            (folder,) = (tmp_path / "out" / "trials").glob(f"{result.variant}-seed{seed}-*")
            rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
            assert value == [row[result.metric.metric] for row in rows if result.metric.metric in row][-1]
    assert {result.column for result in report.analysis.tasks} == {
        "mqar", "mqar: long", "mqar: more_pairs", "in_context_recall"
    }  # fmt: skip
    names = {file.name for file in report.files}
    assert {"tasks.png", "tasks.csv", "tasks.md", "tasks.tex", "states-mqar-long.svg"} <= names
