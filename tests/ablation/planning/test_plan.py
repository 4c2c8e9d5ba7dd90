"""Plans of ablations: equal sizes, equal budgets and equal tuning for all variants, and forecasts."""

from __future__ import annotations

import faulthandler
import json
import math
import os
import signal
from pathlib import Path
from typing import Any

import pytest

import gptzoo
from gptzoo.ablation.design.costs import Costs
from gptzoo.ablation.planning import folder as folder_module
from gptzoo.ablation.planning.calibrate import Calibration, estimate_calibrations, variants_to_measure, wall_seconds
from gptzoo.ablation.planning.folder import check_same_ablation, write_plan
from gptzoo.ablation.planning.forecast import detectable
from gptzoo.ablation.planning.plan import make_plan
from gptzoo.ablation.planning.plan_types import Plan
from gptzoo.ablation.records.trial import TrialOutcome
from gptzoo.ablation.selection.learning_rate_grid import choose_value
from gptzoo.ablation.statistics.power import detectable_difference
from gptzoo.ablation.terminal.print_plan import plan_as_dict
from gptzoo.errors import SpecError
from gptzoo.spec.ablation_fairness import TuneSpec

BASE: dict[str, Any] = {
    "model": {"vocab_size": 257, "context_length": 16, "d_model": 24, "n_layers": 2, "n_heads": 3},
    "batch_size": 4,
    "steps": 100,
    "device": "cpu",
}
FFN = {"model.ffn": ["mlp", "glu"]}


def plan_of(folder: Path, **fields: Any) -> Plan:
    spec = {"name": "plan", "base": BASE, "axes": FFN, "seeds": 2, **fields}
    return make_plan(gptzoo.load_ablation_spec(spec), folder)


def parameters(spec: gptzoo.RunSpec) -> int:
    return sum(parameter.numel() for parameter in gptzoo.build(spec.model, device="meta").parameters())


@pytest.mark.parametrize("by", ["d_ff", "d_model"])
def test_the_size_of_a_matched_variant_is_as_close_to_the_baseline_as_possible(tmp_path: Path, by: str) -> None:
    plan = plan_of(tmp_path, match={"what": "params", "by": by})
    mlp, glu = plan.variants
    assert mlp.spec.model.ffn == gptzoo.load_run_spec(BASE).model.ffn  # the baseline is unchanged
    target = parameters(mlp.spec)
    reached = parameters(glu.spec)
    assert f"{(reached - target) / target:+.2%} parameters" in glu.residue
    data = glu.spec.resolved()
    field = data["model"]["ffn"] if by == "d_ff" else data["model"]
    step = 1 if by == "d_ff" else 6  # each of the 3 heads has an even width
    for other in (field[by] - step, field[by] + step):
        changed = {**field, by: other}
        model = {**data["model"], "ffn": changed} if by == "d_ff" else changed
        assert abs(parameters(gptzoo.load_run_spec({**data, "model": model})) - target) >= abs(reached - target)


def test_variants_matched_in_flops_take_as_many_flops_as_the_baseline(tmp_path: Path) -> None:
    mlp, glu = plan_of(tmp_path, match={"what": "flops", "by": "d_ff"}).variants
    assert mlp.flops is not None
    assert glu.flops == pytest.approx(mlp.flops, rel=0.01)
    assert glu.costs.n_parameters != mlp.costs.n_parameters


class Crashing(gptzoo.FeedForward):
    """A feed-forward network that crashes its process."""

    name = "crashing"

    class Config(gptzoo.FeedForward.Config):
        where: str = "forward"

    def __init__(self, config: Any, *arguments: Any) -> None:
        super().__init__(config, *arguments)
        if config.where == "constructor":
            self.crash()

    def forward(self, x: Any, step: Any, state: Any = None) -> Any:
        if self.config.where == "exit":
            os._exit(3)
        if self.config.where == "error":
            raise ValueError("an error, not a crash")
        self.crash()

    def crash(self) -> None:
        faulthandler.disable()  # pytest's would print a traceback of this intended crash
        os.kill(os.getpid(), signal.SIGSEGV)


@pytest.mark.parametrize("fields", [{}, {"match": {"what": "flops", "by": "d_model"}}], ids=["alone", "matched"])
@pytest.mark.parametrize(
    ("where", "how"),
    [("constructor", "was killed by SIGSEGV"), ("forward", "was killed by SIGSEGV"), ("exit", "exited with code 3")],
)
def test_the_error_for_a_component_that_crashes_while_costs_are_counted_names_the_variant(
    where: str, how: str, fields: Any, tmp_path: Path, fresh_registry: Any
) -> None:
    from support import admit

    admit(Crashing)
    choices = {"good": "mlp", "bad": {"type": "crashing", "where": where}, "better": "glu"}
    with pytest.raises(gptzoo.InputError, match=f"^variant bad: the process that counts .* {how}, .*`exclude`\\.$"):
        plan_of(tmp_path, axes={"model.ffn": {"choices": choices}}, **fields)


def test_an_error_that_a_component_raises_while_costs_are_counted_is_raised_by_the_planner(
    tmp_path: Path, fresh_registry: Any
) -> None:
    from support import admit

    admit(Crashing)
    with pytest.raises(ValueError, match="an error, not a crash"):
        plan_of(tmp_path, axes={"model.ffn": ["mlp", {"type": "crashing", "where": "error"}]})


def test_a_variant_without_the_matched_width_is_excluded_with_the_reason(tmp_path: Path, fresh_registry: Any) -> None:
    from support import admit

    class Narrow(gptzoo.FeedForward):
        """Identity."""

        name = "narrow"

        def forward(self, x: Any, step: Any, state: Any = None) -> Any:
            return x

    admit(Narrow)
    plan = plan_of(tmp_path, axes={"model.ffn": ["mlp", "narrow"]}, match={"what": "params", "by": "d_ff"})
    assert [variant.name for variant in plan.variants] == ["mlp"]
    assert [exclusion.reason for exclusion in plan.exclusions] == [
        "its size cannot be matched to the baseline: 'narrow' has no option 'd_ff'"
    ]


def test_a_budget_of_tokens_gives_batches_of_any_size_the_same_number_of_tokens(tmp_path: Path) -> None:
    axes = {"batch_size": [4, 8], "model.context_length": [16, 32]}
    plan = plan_of(tmp_path, axes=axes, budget={"tokens": 6400})
    assert [variant.n_steps for variant in plan.variants] == [100, 50, 50, 25]
    assert {variant.n_tokens for variant in plan.variants} == {6400}
    assert not plan.paired  # different context lengths cut the text at different places
    unequal = plan_as_dict(plan_of(tmp_path, axes=axes), None)["warning_records"]
    assert {warning["kind"] for warning in unequal} >= {"tokens", "context length"}


def test_a_budget_of_flops_gives_larger_models_fewer_steps(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, axes={"model.n_layers": [1, 4]}, budget={"flops": 1e9})
    for variant in plan.variants:
        assert variant.costs.flops_per_token is not None
        assert variant.n_steps == round(1e9 / (variant.costs.flops_per_token * 4 * 16))
        assert variant.flops == pytest.approx(1e9, rel=0.05)


def done(loss: float | None) -> TrialOutcome:
    state = "done" if loss is not None else "failed"
    return TrialOutcome("any", 1000, state, rows=[{"step": 1, "val/loss": loss}])  # type: ignore[arg-type]


def test_tuning_keeps_the_value_with_the_lowest_mean_and_reports_the_edge_of_the_grid() -> None:
    spec, tune = gptzoo.load_run_spec(BASE), TuneSpec(factors=(3.0, 1.0, 0.5), seeds=(8, 9))
    losses: dict[tuple[float, int], float | None] = {(0.0005, 8): 3.0, (0.0005, 9): 2.0, (0.001, 8): 2.4}
    losses |= {(0.001, 9): 2.4, (0.003, 8): 1.0, (0.003, 9): None}
    chosen = choose_value(spec, tune, "val/loss", lambda trial: done(losses[trial.value, trial.seed]))
    assert [(trial.value, trial.seed) for trial in chosen.trials] == [
        (0.0005, 8), (0.0005, 9), (0.001, 8), (0.001, 9), (0.003, 8), (0.003, 9)
    ]  # fmt: skip
    assert chosen.spec is not None
    assert chosen.spec.optimizer.lr == 0.001  # 0.0005 has a mean of 2.5, and 0.003 failed with one seed
    assert chosen.description == "optimizer.lr 0.001, the best of 0.0005, 0.001, 0.003"
    losses[0.0005, 8] = losses[0.001, 8] = 2.8 - 0.4
    edge = choose_value(spec, tune, "val/loss", lambda trial: done({0.0005: 1.0}.get(trial.value, 2.0)))
    assert edge.description.endswith("at the lowest edge of the grid")
    all_failed = choose_value(spec, tune, "val/loss", lambda trial: done(None))
    assert (all_failed.spec, all_failed.complete) == (None, True)


def test_the_comparison_waits_for_tuning_and_then_uses_the_chosen_values(tmp_path: Path) -> None:
    fields = {"tune": {"factors": [1.0, 4.0], "seeds": [50]}, "axes": {"model.norm": ["pre_ln", "post_ln"]}}
    plan = plan_of(tmp_path, **fields)
    assert (len(plan.tuning), len(plan.trials)) == (4, 0)
    write_plan(tmp_path, plan)
    for index, trial in enumerate(plan.tuning):
        folder = tmp_path / "trials" / trial.name
        folder.mkdir(parents=True)
        loss = [2.0, 1.0, 1.0, 2.0][index]
        (folder / "metrics.jsonl").write_text(json.dumps({"step": 100, "val/loss": loss}) + "\n")
        (folder / "status.json").write_text('{"status": "done"}')
    after = plan_of(tmp_path, **fields)
    assert [trial.spec.optimizer.lr for trial in after.trials] == [0.004, 0.001, 0.004, 0.001]
    assert {trial.seed for trial in after.trials} == {1, 2}
    write_plan(tmp_path, after)
    assert gptzoo.read_outcome(tmp_path).variants[0].tuned == (
        "optimizer.lr 0.004, the best of 0.001, 0.004, at the highest edge of the grid"
    )


def test_a_transfer_between_variants_that_do_not_exist_is_refused_with_the_place(tmp_path: Path) -> None:
    with pytest.raises(SpecError) as error:
        plan_of(tmp_path, tune={"transfer": {"glu": ["mlpp"]}})
    assert [(problem.path, problem.reason) for problem in error.value.problems] == [
        ("$.tune.transfer.glu", "there is no variant 'mlpp'; did you mean 'mlp'?")
    ]


def test_a_variant_has_failed_in_the_outcome_if_all_trials_of_its_grid_failed(tmp_path: Path) -> None:
    fields = {"tune": {"factors": [1.0, 4.0], "seeds": [50]}}
    plan = plan_of(tmp_path, **fields)
    write_plan(tmp_path, plan)
    for trial in plan.tuning[2:]:
        folder = tmp_path / "trials" / trial.name
        folder.mkdir(parents=True)
        (folder / "attempts.json").write_text('{"attempts": [], "given_up": "diverged"}')
    after = plan_of(tmp_path, **fields)
    write_plan(tmp_path, after)
    trials = [(t.variant, t.state, t.reason) for t in gptzoo.read_outcome(tmp_path).trials]
    assert trials == [("glu", "failed", "all trials of the optimizer.lr grid failed: 0.001, 0.004")] * 2


def test_a_runner_may_start_while_another_writes_the_plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan, n_files, write = plan_of(tmp_path), 0, folder_module.write_json

    def write_while_another_starts(path: Path, value: Any) -> None:
        (tmp_path / ".incomplete-ablation.json-1").write_text("{")
        check_same_ablation(tmp_path, plan.spec)
        write(path, value)
        check_same_ablation(tmp_path, plan.spec)
        nonlocal n_files
        n_files += 1

    monkeypatch.setattr(folder_module, "write_json", write_while_another_starts)
    write_plan(tmp_path, plan)
    assert n_files == 2
    (tmp_path / "ablation.json").unlink()
    with pytest.raises(gptzoo.FolderError, match=r"is not empty and has no ablation\.json"):
        check_same_ablation(tmp_path, plan.spec)


def test_the_smallest_detectable_difference_follows_from_the_known_noise(tmp_path: Path) -> None:
    unknown = detectable(plan_of(tmp_path, seeds=4), tmp_path)
    in_sd = detectable_difference(math.sqrt(2), 4, paired=True)
    assert (unknown.in_sd, unknown.difference) == (True, pytest.approx(in_sd))
    prior = {"seed_noise": {"sd": 0.01, "source": "the pilot of May"}}
    known = detectable(plan_of(tmp_path, seeds=4, **prior), tmp_path)
    assert (known.in_sd, known.source) == (False, "the pilot of May")
    assert known.difference == pytest.approx(0.01 * in_sd)
    assert detectable(plan_of(tmp_path, seeds=1), tmp_path).difference is None


def test_the_noise_of_finished_trials_replaces_that_of_the_spec(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, seed_noise={"sd": 9.0, "source": "a guess"})
    write_plan(tmp_path, plan)
    for trial, loss in zip(plan.trials, [2.0, 2.1, 3.0, 3.3], strict=True):  # differences of 0.1 and 0.3
        folder = tmp_path / "trials" / trial.name
        folder.mkdir(parents=True)
        (folder / "metrics.jsonl").write_text(json.dumps({"step": 100, "val/loss": loss}) + "\n")
        (folder / "status.json").write_text('{"status": "done"}')
        (folder / "sample.txt").write_text("once\n")
    measured = detectable(plan, tmp_path)
    assert measured.difference == pytest.approx(detectable_difference(0.1 * math.sqrt(2), 2, paired=True))


def test_variants_that_were_not_measured_are_estimated_by_size() -> None:
    costs = {f"v{n}": Costs(n, float(n), 0, 0) for n in range(1, 31)}
    measured = variants_to_measure(costs, "v7")
    assert len(measured) <= 12
    assert {"v1", "v7", "v30"} <= set(measured)
    estimates = estimate_calibrations({"v1": Calibration(1.0, 5.0), "v30": Calibration(30.0, 5.0)}, costs)
    assert estimates["v29"] == Calibration(29.0, 5.0)
    assert estimates["v29"].trial_seconds(10, 5) == 10 * 29.0 + 3 * 5.0  # evaluations before step 1, at 5 and at 10


def test_the_duration_on_two_workers_is_that_of_the_busier_one() -> None:
    assert wall_seconds([3.0, 1.0, 1.0, 1.0], 2) == 3.0
    assert wall_seconds([1.0] * 5, 2) == 3.0


def test_each_variant_records_which_family_of_transformers_it_is_exported_to(tmp_path: Path) -> None:
    plan = plan_of(tmp_path)
    write_plan(tmp_path, plan)
    mlp, glu = json.loads((tmp_path / "variants.json").read_text())["variants"]
    assert (mlp["exports_as"], glu["exports_as"]) == ("gpt2", "not: ffn glu (closest: gpt2)")
