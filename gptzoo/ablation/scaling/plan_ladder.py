"""The plan of a scaling ladder: the run of each variant at each size, and the ablation that trains them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from gptzoo.ablation.design.axes import Choice, apply_choices
from gptzoo.ablation.design.costs import CostCache, tokens_per_step
from gptzoo.ablation.design.recommended import take_along
from gptzoo.ablation.design.spec_reader import SpecReader
from gptzoo.ablation.scaling.ladder_spec import BASELINE, LadderSpec, SizeRule
from gptzoo.ablation.scaling.result import LadderRun
from gptzoo.errors import Problem, SpecError
from gptzoo.model.accounting import count_parameters
from gptzoo.model.build import build_on_meta
from gptzoo.spec.ablation import AblationSpec
from gptzoo.spec.run import RunSpec

AXIS = "run"  # of the ablation; its choices are variants at sizes
_LENGTHS = ("steps", "tokens", "epochs")


@dataclass(frozen=True)
class LadderPlan:
    """The runs of a ladder, and the ablation that trains them."""

    spec: LadderSpec
    runs: Sequence[LadderRun]
    ablation: AblationSpec


def plan_ladder(spec: LadderSpec, costs: CostCache | None = None) -> LadderPlan:
    """Apply the rule to each variant at each size. Raises SpecError."""
    costs = costs or CostCache()
    base = {name: value for name, value in spec.base.items() if name not in (*_LENGTHS, "seed")}
    base |= {"steps": 1}  # replaced in each run
    reader = SpecReader(spec.folder)
    fitted = spec.sizes[: len(spec.sizes) - spec.n_held_out]
    runs = [
        _plan_run(spec, reader, costs, base, variant, fields, n_layers, held_out=n_layers not in fitted)
        for n_layers in spec.sizes
        for variant, fields in {BASELINE: {}, **spec.variants}.items()
    ]
    for variant in (BASELINE, *spec.variants):
        sizes = [run.n_parameters for run in runs if run.variant == variant]
        if sizes != sorted({*sizes}):
            reason = f"the parameters of {variant} do not grow with the size: {', '.join(map(str, sizes))}"
            raise SpecError([Problem(spec.name, "$.rule", f"{reason}. Does the base fix a width, such as d_ff?")])
    return LadderPlan(spec, runs, _ablation(spec, base, runs))


def shape_of(rule: SizeRule, n_layers: int) -> tuple[int, int]:
    """Return d_model and n_heads of a size."""
    n_heads = max(1, round(n_layers * rule.width_per_layer / rule.head_width))
    return n_heads * rule.head_width, n_heads


def _plan_run(
    spec: LadderSpec,
    reader: SpecReader,
    costs: CostCache,
    base: dict[str, Any],
    variant: str,
    changes: dict[str, Any],
    n_layers: int,
    *,
    held_out: bool,
) -> LadderRun:
    rule = spec.rule
    d_model, n_heads = shape_of(rule, n_layers)
    smallest, _ = shape_of(rule, spec.sizes[0])
    growth = n_layers * d_model**2 / (spec.sizes[0] * smallest**2)
    own = _read(spec, reader, base, variant, changes, recommended=True)
    rate = getattr(own.optimizer, "lr", None)
    fields: dict[str, Any] = {
        **changes,
        "model.n_layers": n_layers,
        "model.d_model": d_model,
        "model.n_heads": n_heads,
        "batch_size": max(1, round(own.batch_size * growth**rule.batch_exponent)),
    }
    if rate is not None:
        rate = float(f"{rate * growth**rule.learning_rate_exponent:.3g}")
        fields["optimizer.lr"] = rate
    run = _read(spec, reader, base, variant, fields)
    n_parameters = count_parameters(build_on_meta(costs.with_vocabulary(run))).non_embedding
    n_steps = max(1, round(rule.tokens_per_parameter * n_parameters / tokens_per_step(run)))
    return LadderRun(
        label=f"{n_layers}l-{variant}",
        variant=variant,
        n_layers=n_layers,
        d_model=d_model,
        n_heads=n_heads,
        batch_size=run.batch_size,
        learning_rate=rate,
        n_parameters=n_parameters,
        n_steps=n_steps,
        held_out=held_out,
        repeats=_passes(run, n_steps, costs),
        fields={**fields, "steps": n_steps},
    )


def _passes(run: RunSpec, n_steps: int, costs: CostCache) -> float | None:
    """Return how often a run reads its training text."""
    if run.corpus.component.provides != "documents":
        return None
    tokenizer, store = costs.data(run)
    batching = run.batching.build(store, tokenizer, run.model.context_length, run.seed)
    return float(n_steps * run.batch_size / batching.n_samples)


def _read(
    spec: LadderSpec,
    reader: SpecReader,
    base: dict[str, Any],
    variant: str,
    fields: dict[str, Any],
    *,
    recommended: bool = False,
) -> RunSpec:
    """Return the run of a variant, with the settings that its components recommend if wanted."""
    choice = Choice(variant, variant, fields)
    try:
        data = apply_choices(RunSpec, base, [choice])
        run = reader.read(RunSpec, data)
        if recommended:
            run, _ = take_along(reader, run, data, reader.read(RunSpec, base), [choice], [choice])
        return run
    except SpecError as error:
        found = [(problem.path, problem.reason) for problem in error.problems]
    except ValueError as error:
        found = [("$", str(error))]
    place = "$.base" if variant == BASELINE else f"$.variants.{variant}"
    raise SpecError([Problem(spec.name, place, f"{path}: {reason}") for path, reason in found])


def _ablation(spec: LadderSpec, base: dict[str, Any], runs: Sequence[LadderRun]) -> AblationSpec:
    """Return the ablation whose trials are those of the ladder."""
    settings: dict[str, Any] = {
        "name": spec.name,
        "base": base,
        "axes": {AXIS: {"choices": {run.label: run.fields for run in runs}}},
        "baseline": {AXIS: runs[0].label},
        "seeds": list(spec.seeds),
        "metric": spec.metric,
        "executor": spec.executor.model_dump(mode="json"),
        "samples": False,
    }
    if spec.tune is not None:
        tuned_sizes = spec.sizes[: spec.tune.n_sizes]
        transfer = {
            run.label: [of.label for of in runs if of.variant == run.variant and of.n_layers in tuned_sizes]
            for run in runs
            if run.n_layers not in tuned_sizes
        }
        settings["tune"] = {**spec.tune.model_dump(mode="json", exclude={"n_sizes"}), "transfer": transfer}
    return AblationSpec.model_validate(settings, context={"folder": spec.folder})
