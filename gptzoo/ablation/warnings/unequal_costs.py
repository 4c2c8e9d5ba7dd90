"""The differences in size and compute that stand beside a verdict: "better" alone would hide them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from gptzoo.ablation.records.outcome import Variant
from gptzoo.ablation.warnings.costs import MIN_RELATIVE_DIFFERENCE

VariantPair = tuple[Variant, Variant]  # a variant, and the one that it is compared with


def describe_unequal_costs(pairs: Sequence[VariantPair]) -> str:
    """Return by how much the first variants exceed the second ones in parameters and in training FLOPs.

    For example: "5.0% more parameters and 4.2% fewer training FLOPs". Of several pairs, the totals are compared. Return
    "" if both are about equal or unknown.
    """
    parts = [
        describe_excess(pairs, lambda variant: variant.n_parameters, "parameters"),
        describe_excess(pairs, lambda variant: variant.flops, "training FLOPs")
        or describe_excess(pairs, lambda variant: variant.flops_per_token, "training FLOPs per token"),
    ]
    return " and ".join(filter(None, parts))


def describe_excess(pairs: Sequence[VariantPair], cost_of: Callable[[Variant], float | None], noun: str) -> str:
    """Return by how much the first variants exceed the second ones: "5.0% more parameters", or "" if about equal."""
    costs = [(cost_of(variant), cost_of(reference)) for variant, reference in pairs]
    if not costs or any(not own or not other for own, other in costs):
        return ""
    share = sum(own or 0 for own, _ in costs) / sum(other or 0 for _, other in costs) - 1
    if abs(share) <= MIN_RELATIVE_DIFFERENCE:
        return ""
    size = f"{share + 1:.3g} times the" if share >= 1 else f"{abs(share):.1%} {'more' if share > 0 else 'fewer'}"
    return f"{size} {noun}"
