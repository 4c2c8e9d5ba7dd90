"""The plan of a scaling ladder: the run of each variant at each size, and the ablation that trains them."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from gptzoo.ablation.design.costs import CostCache, tokens_per_step
from gptzoo.ablation.design.spec_reader import SpecReader
from gptzoo.ablation.scaling.ladder_spec import BASELINE, LadderSpec, SizeRule
from gptzoo.errors import Problem, SpecError
from gptzoo.model.accounting import count_parameters
from gptzoo.model.build import build_on_meta
from gptzoo.spec.ablation import AblationSpec
from gptzoo.spec.files import load_ablation_spec
from gptzoo.spec.overrides import set_field
from gptzoo.spec.run import RunSpec

AXIS = "run"  # of the ablation; its choices are variants at sizes
_LENGTHS = ("steps", "tokens", "epochs")


@dataclass(frozen=True)
class LadderRun:
    """One variant at one size, as the rule makes it."""

    label: str  # of the choice in the ablation
    variant: str
    n_layers: int
    d_model: int
    n_heads: int
    batch_size: int
    learning_rate: float | None  # None if the optimizer has no option `lr`
    n_parameters: int  # without embeddings
    n_steps: int
    held_out: bool  # True if the laws are not fitted to it
    repeats: float | None  # passes over the training text; None if the corpus generates samples
    fields: dict[str, Any]  # the fields of the base that it changes


@dataclass(frozen=True)
class LadderPlan:
    """The runs of a ladder, and the ablation that trains them."""

    spec: LadderSpec
    runs: Sequence[LadderRun]
    ablation: AblationSpec

    def run_of(self, choices: dict[str, str]) -> LadderRun:
        """Return the run that a variant of the ablation trains."""
        return next(run for run in self.runs if run.label == choices[AXIS])


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
    own = _read(spec, reader, base, variant, changes)
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


def _read(spec: LadderSpec, reader: SpecReader, base: dict[str, Any], variant: str, fields: dict[str, Any]) -> RunSpec:
    data = copy.deepcopy(base)  # later fields are set inside of values, so these are copied, too
    try:
        for path, value in sorted(fields.items(), key=lambda field: field[0].count(".")):  # outer fields first
            set_field(RunSpec, data, path.split("."), copy.deepcopy(value))
        return reader.read(RunSpec, data)
    except (SpecError, ValueError) as error:
        reason = error.problems[0].reason if isinstance(error, SpecError) else str(error)
        place = error.problems[0].path if isinstance(error, SpecError) else "$"
        raise SpecError([Problem(spec.name, f"$.variants.{variant}", f"{place}: {reason}")]) from None


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
        settings["tune"] = spec.tune.model_dump(mode="json")
    return load_ablation_spec(settings)
