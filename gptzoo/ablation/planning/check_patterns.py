"""The check that the patterns of each variant's run name parameters that its model has."""

from __future__ import annotations

from collections.abc import Sequence

from gptzoo.ablation.design.costs import CostCache
from gptzoo.ablation.planning.plan_types import PlannedVariant
from gptzoo.errors import InputError
from gptzoo.model.build import build_on_meta
from gptzoo.spec.ablation import AblationSpec
from gptzoo.spec.run import RunSpec
from gptzoo.training.initial_weights import assign_parts
from gptzoo.training.trained_parameters import freeze_parameters


def check_patterns(spec: AblationSpec, variants: Sequence[PlannedVariant], costs: CostCache) -> None:
    """Raise InputError for a pattern of `freeze`, `train_only` or `init_from` that matches nothing in some variant.

    Its trials would fail after others have been trained.
    """
    for variant in variants:
        if not _has_patterns(variant.spec):
            continue
        model = build_on_meta(costs.with_vocabulary(variant.spec))
        try:
            freeze_parameters(model, variant.spec.freeze, variant.spec.train_only)
            if variant.spec.init_from is not None:
                assign_parts(variant.spec.init_from, model.state_dict())
        except InputError as error:
            raise InputError(
                f"{spec.name}: variant {variant.name}: {error}. Set other patterns for this variant, by an axis whose "
                "choices change several fields, or exclude it"
            ) from None


def _has_patterns(run: RunSpec) -> bool:
    return bool(run.freeze or run.train_only or (run.init_from is not None and run.init_from.parts))
