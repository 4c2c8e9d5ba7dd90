"""The run specs in configs/runs."""

from __future__ import annotations

from pathlib import Path

import pytest

import gptzoo
from gptzoo.training.optim.learning_rate_schedules import Cosine
from gptzoo.training.optim.schedule_shape import schedule_warnings
from gptzoo.utils.json_diff import differences

RUNS = Path(__file__).parent.parent.parent / "configs" / "runs"


@pytest.mark.parametrize("file", sorted(RUNS.glob("*.json")), ids=lambda file: file.stem)
def test_every_run_config_is_valid_and_equals_its_resolved_form(file: Path) -> None:
    spec = gptzoo.load_run_spec(file)
    assert spec.name == file.stem
    assert gptzoo.load_run_spec(spec.resolved()) == spec


def test_the_muon_run_is_a_shorter_quickstart_with_another_optimizer() -> None:
    muon, quickstart = (gptzoo.load_run_spec(RUNS / f"{name}.json") for name in ("muon", "quickstart"))
    assert muon.model == quickstart.model
    other = {c.name.split(".")[1] for c in differences(quickstart.resolved(), muon.resolved())}
    assert other == {"name", "optimizer", "steps", "eval", "checkpoint"}


def test_the_base_of_the_ablations_has_the_warmup_of_the_recorded_results_and_scales_it() -> None:
    """docs/results.md: 500 steps and a warmup of 50, and 200 steps and a warmup of 20."""
    base = gptzoo.load_run_spec(RUNS / "ablation-base.json")
    assert base.steps == 500
    for n_steps in (500, 200):
        schedule = base.schedule.build(n_steps)
        as_recorded = Cosine.Config(warmup_steps=n_steps // 10).build(n_steps)
        factors = [[s.lr_factor(step) for step in range(n_steps)] for s in (schedule, as_recorded)]
        assert factors[0] == factors[1]


@pytest.mark.parametrize("file", sorted(RUNS.glob("*.json")), ids=lambda file: file.stem)
def test_no_run_config_has_a_schedule_that_its_length_cuts_off(file: Path) -> None:
    spec = gptzoo.load_run_spec(file)
    assert spec.steps is not None
    assert schedule_warnings(spec.schedule, spec.steps) == []


def test_the_run_configs_named_in_the_docs_exist() -> None:
    assert {file.stem for file in RUNS.glob("*.json")} >= {"quickstart", "shakespeare-char"}


def test_the_shakespeare_run_is_the_published_cpu_setting_of_nanogpt() -> None:
    """From nanoGPT's README: 4 layers, 4 heads, 128, T 64, batch 12, 2000 iterations, dropout 0, no bias."""
    spec = gptzoo.load_run_spec(RUNS / "shakespeare-char.json")
    model = spec.model
    assert (model.n_layers, model.n_heads, model.d_model, model.context_length) == (4, 4, 128, 64)
    assert (model.bias, model.dropout, model.tie_embeddings) == (False, 0.0, True)
    assert (spec.batch_size, spec.steps, spec.clip_norm) == (12, 2000, 1.0)
    optimizer = spec.optimizer.model_dump()
    assert (optimizer["lr"], optimizer["betas"], optimizer["weight_decay"]) == (1e-3, (0.9, 0.99), 0.1)
    schedule = spec.schedule.build(spec.steps)
    assert schedule.lr_factor(100) == 1.0
    assert schedule.lr_factor(1999) == pytest.approx(0.1, abs=1e-4)
    assert schedule.lr_factor(0) == pytest.approx(1 / 101)
