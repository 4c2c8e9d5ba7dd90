"""Ablations over a corpus of samples: declared metrics are accuracies, and its held-out samples are its own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from support import admit
from toy_task import Echo, echo_run

import gptzoo
from gptzoo import registry
from gptzoo.ablation.design.metric_direction import is_higher_better
from gptzoo.ablation.planning.folder import read_outcome, write_plan
from gptzoo.ablation.planning.plan import make_plan
from gptzoo.ablation.planning.plan_types import Plan
from gptzoo.ablation.statistics.analyse import analyse

TASKS = {"choices": {"short": {"type": "echo", "n_val": 21}, "long": {"type": "echo", "length": 12, "n_val": 15}}}


def plan_of(folder: Path, axes: dict[str, Any], **fields: Any) -> Plan:
    design = {"base": echo_run(), "axes": axes, "seeds": 2, "samples": False, "metric": "val/accuracy", **fields}
    return make_plan(gptzoo.load_ablation_spec(design), folder)


@pytest.mark.parametrize(
    ("metric", "higher"),
    [("val/accuracy", True), ("val/long/accuracy", True), ("tokens_per_second", True), ("val/loss", False)],
)
def test_the_direction_of_a_metric_is_that_of_its_declaration(
    metric: str, higher: bool, tmp_path: Path, fresh_registry: registry.Registry
) -> None:
    admit(Echo)
    plan = plan_of(tmp_path, {"model.norm": ["pre_ln", "post_ln"]}, metric=metric)
    assert plan.higher_is_better is higher
    write_plan(tmp_path, plan)
    assert read_outcome(tmp_path).higher_is_better is higher
    halving = plan_of(tmp_path, {"model.norm": "*"}, metric=metric, halving={"rungs": [0.5]}).halving
    assert halving is not None
    assert halving.higher_is_better is higher


def test_an_accuracy_of_documents_has_no_direction_of_its_own(tmp_path: Path) -> None:
    runs = [gptzoo.load_run_spec(echo_run(corpus={"type": "stories", "n_stories": 60}))]
    assert not is_higher_better("val/accuracy", runs)


def test_variants_are_compared_within_a_task(tmp_path: Path, fresh_registry: registry.Registry) -> None:
    admit(Echo)
    plan = plan_of(tmp_path, {"corpus": TASKS, "model.norm": ["pre_ln", "post_ln"]}, base=echo_run_of_length(12))
    assert plan.task_axes == ["corpus"]
    references = {(v.choices["corpus"], v.choices["model.norm"]): v.reference or plan.baseline for v in plan.variants}
    names = {(v.choices["corpus"], v.choices["model.norm"]): v.name for v in plan.variants}
    assert references == {(task, norm): names[task, "pre_ln"] for task, norm in names}
    assert plan.paired  # within each task
    write_plan(tmp_path, plan)
    outcome = read_outcome(tmp_path)
    assert sorted(outcome.compared) == sorted(names[task, "post_ln"] for task in ("short", "long"))
    assert {v.name: v.task_metrics for v in outcome.variants} == {v.name: v.task_metrics for v in plan.variants}


def echo_run_of_length(context_length: int) -> dict[str, Any]:
    run = echo_run()
    return {**run, "model": {**run["model"], "context_length": context_length}}


def test_the_size_of_the_state_is_that_of_keys_and_values_at_the_length_of_the_samples(
    tmp_path: Path, fresh_registry: registry.Registry
) -> None:
    admit(Echo)
    attention = {"choices": {"full": "sdpa", "window": {"type": "sdpa", "window": 4}}}
    plan = plan_of(tmp_path, {"model.attention": attention})
    sizes = {v.name: {m.metric: m.state_bytes for m in v.task_metrics} for v in plan.variants}
    assert {metric.metric: metric.length for metric in plan.variants[0].task_metrics} == {
        "val/accuracy": 8,
        "val/long/accuracy": 20,
    }
    per_token = 2 * 16 * 4  # keys and values of one layer with 16 channels, in 4 bytes
    full, window = sizes["full"], sizes["window"]
    assert all(size is not None for size in (*full.values(), *window.values()))
    assert (full["val/long/accuracy"] or 0) - (full["val/accuracy"] or 0) == pytest.approx(12 * per_token, rel=0.1)
    assert window["val/long/accuracy"] == window["val/accuracy"]  # a window forgets
    assert (window["val/accuracy"] or 0) < (full["val/accuracy"] or 0)


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"axes": {"corpus": TASKS}}, r"\$\.axes: the variants have different held-out samples, because of the axis"),
        (
            {"axes": {"corpus": TASKS, "model.norm": ["pre_ln", "post_ln"]}, "halving": {"rungs": [0.5]}},
            r"\$\.halving: cannot be combined with the axis 'corpus' over tasks",
        ),
        (
            {"axes": {"model.norm": ["pre_ln", "post_ln"]}, "baseline_lengths": [0.5, 2]},
            r"\$\.baseline_lengths: needs a metric that is lower for better models, and val/accuracy is higher",
        ),
        (
            {
                "axes": {"corpus": TASKS, "model.norm": ["pre_ln", "post_ln"]},
                "metric": "val/loss",
                "baseline_lengths": [0.5, 2],
            },
            r"\$\.baseline_lengths: needs one baseline, and corpus has one for each task",
        ),
        (
            {
                "axes": {"corpus": TASKS, "model.norm": ["pre_ln", "post_ln"]},
                "exclude": [{"when": {"corpus": "long", "model.norm": "pre_ln"}}],
            },
            r"\$\.axes: .* has no variant to be compared with on its task: the one with .*model\.norm pre_ln",
        ),
    ],
)
def test_a_design_over_tasks_without_anything_to_compare_is_refused(
    fields: dict[str, Any], reason: str, tmp_path: Path, fresh_registry: registry.Registry
) -> None:
    admit(Echo)
    with pytest.raises(gptzoo.SpecError, match=reason):
        plan_of(tmp_path, **{"base": echo_run_of_length(12), **fields})


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        (
            {"metric": "val/longer/accuracy"},
            r"not measured in .*: its corpus 'echo' has no level 'longer'. Its levels: long$",
        ),
        (
            {
                "metric": "val/long/loss",
                "axes": {
                    "corpus": {"choices": {"levels": echo_run()["corpus"], **TASKS["choices"]}},
                    "model.norm": ["pre_ln", "post_ln"],
                },
            },
            r"has no level 'long'. Its levels: none$",
        ),
        (
            {"axes": {"corpus": ["echo", "stories"]}},
            r"in stories: its corpus 'stories' has no metric 'accuracy'. Its metrics besides the loss: none$",
        ),
        ({"metric": "val/acuracy"}, r"has no metric 'acuracy'; did you mean 'accuracy'\?. Its metrics"),
        ({"metric": "val/los"}, r"has no metric 'los'; did you mean 'loss'\?. Its metrics besides the loss: accuracy$"),
        ({"metric": "loss"}, r"no run records it; did you mean 'val/loss'\?  \(metrics of this run: val/loss, "),
        (
            {"metric": "anything"},
            r"no run records it  \(metrics of this run: val/loss, .*, val/accuracy, train/loss, lr",
        ),
        ({"metric": "val/ema_loss"}, r"it has no average of the weights. Set ema_decay$"),
    ],
)
def test_a_metric_that_some_variant_does_not_measure_is_refused_before_anything_is_trained(
    fields: dict[str, Any], reason: str, tmp_path: Path, fresh_registry: registry.Registry
) -> None:
    admit(Echo)
    with pytest.raises(gptzoo.SpecError, match=r"\$\.metric: .*" + reason):
        plan_of(tmp_path, **{"base": echo_run_of_length(12), "axes": {"model.norm": ["pre_ln", "post_ln"]}, **fields})


def test_levels_that_differ_are_other_tasks_for_a_metric_of_a_level(
    tmp_path: Path, fresh_registry: registry.Registry
) -> None:
    admit(Echo)
    levels = {"choices": {str(n): {"type": "echo", "levels": {"long": {"length": n}}} for n in (10, 12)}}
    axes = {"corpus": levels, "model.norm": ["pre_ln", "post_ln"]}
    assert plan_of(tmp_path, axes, metric="val/long/accuracy").task_axes == ["corpus"]
    assert plan_of(tmp_path, axes, metric="val/accuracy").task_axes == ()


def test_a_search_over_tasks_is_refused_before_it_begins(tmp_path: Path, fresh_registry: registry.Registry) -> None:
    admit(Echo)
    search = {"mode": "tpe", "n_variants": 3, "halving": {"rungs": [0.5]}}
    axes = {"corpus": TASKS, "model.norm": ["pre_ln", "post_ln"]}
    with pytest.raises(gptzoo.SpecError, match=r"\$\.halving: cannot be combined with the axis 'corpus' over tasks"):
        plan_of(tmp_path, axes, base=echo_run_of_length(12), **search)


def test_the_folder_of_an_older_version_has_losses_and_no_tasks(
    tmp_path: Path, fresh_registry: registry.Registry
) -> None:
    admit(Echo)
    write_plan(tmp_path, plan_of(tmp_path, {"model.norm": ["pre_ln", "post_ln"]}, metric="val/loss"))
    design = json.loads((tmp_path / "variants.json").read_text())
    for name in ("sha256", "higher_is_better", "task_axes"):
        del design[name]
    for variant in design["variants"]:
        del variant["reference"], variant["task_metrics"]
    (tmp_path / "variants.json").write_text(json.dumps(design))
    outcome = read_outcome(tmp_path)
    assert (outcome.higher_is_better, list(outcome.task_axes), analyse(outcome).tasks) == (False, [], [])


def test_an_axis_over_corpora_gives_each_its_own_tokenizer_and_batching(fresh_registry: registry.Registry) -> None:
    admit(Echo)
    variants = gptzoo.variants(echo_run(), {"corpus": ["echo", "stories"]})
    partners = {
        variant.spec.corpus.type: (variant.spec.tokenizer.type, variant.spec.batching.type) for variant in variants
    }
    assert partners == {"echo": ("char", "samples"), "stories": ("byte", "windows")}


@pytest.mark.parametrize(("corpus", "held_out"), [("echo", "stories"), ("stories", "echo")])
def test_generated_samples_take_no_other_held_out_text(
    corpus: str, held_out: str, tmp_path: Path, fresh_registry: registry.Registry
) -> None:
    admit(Echo)
    base = echo_run(corpus=corpus)
    design: dict[str, Any] = {"base": base, "axes": {"model.norm": ["pre_ln", "post_ln"]}, "held_out": held_out}
    with pytest.raises(gptzoo.SpecError, match=r"\$\.held_out: corpus 'echo' generates its own held-out samples. Rem"):
        gptzoo.ablate(design, tmp_path / "out")
