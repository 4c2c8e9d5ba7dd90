"""Main effects and two-way interactions of a factorial design, as contrasts of its cells (the variants).

A main effect compares a choice with the baseline's choice on the same axis, averaged over the other axes. An
interaction is the effect of two choices together beyond the sum of their separate effects, averaged in the same way.

If a combination of the other axes lacks a cell, the contrast leaves out the whole combination. The alternative,
filling in the cell from a model without higher interactions, would assume what is to be tested.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from gptzoo.ablation.records.outcome import Outcome, Variant
from gptzoo.ablation.statistics.contrast import Contrast, Endpoints, estimate_contrast, pooled_sd

Cells = Mapping[tuple[str, ...], Endpoints]  # by the choices on all axes, in the order of the axes


@dataclass(frozen=True)
class FactorialContrast:
    """A main effect (one axis) or an interaction (two axes)."""

    choices: Mapping[str, str]  # by axis
    reference: Mapping[str, str]  # the baseline's choices on the same axes
    contrast: Contrast | None  # None if no combination of the other axes has all cells
    sd: float | None  # standard deviation of one run over seeds, pooled over the cells
    n_averaged: int  # combinations of the other axes in the average
    n_combinations: int  # combinations of the other axes in the design


def factorial_contrasts(outcome: Outcome, endpoints: Mapping[str, Endpoints]) -> list[FactorialContrast]:
    """Return all main effects, then all two-way interactions. The list is empty unless two or more axes are crossed."""
    axes = {path: labels for path, labels in outcome.axes.items() if len(labels) > 1}
    if not outcome.factorial or len(axes) < 2:
        return []
    cells = {
        tuple(variant.choices[path] for path in axes): endpoints[variant.name]
        for variant in outcome.variants
        if endpoints[variant.name]
    }
    baseline = next(variant.choices for variant in outcome.variants if variant.name == outcome.baseline)
    # The difference between two tasks says nothing about a model, so effects are averages over the tasks.
    varied = [path for path in axes if path not in outcome.task_axes]
    axes_of_effects = [*itertools.combinations(varied, 1), *itertools.combinations(varied, 2)]
    return [
        _factorial_contrast(cells, axes, dict(zip(paths, labels, strict=True)), baseline, outcome.paired)
        for paths in axes_of_effects
        for labels in itertools.product(*([label for label in axes[path] if label != baseline[path]] for path in paths))
    ]


def _factorial_contrast(
    cells: Cells,
    axes: Mapping[str, Sequence[str]],
    choices: Mapping[str, str],
    baseline: Mapping[str, str],
    paired: bool,
) -> FactorialContrast:
    reference = {path: baseline[path] for path in choices}
    other_axes = [path for path in axes if path not in choices]
    complete, n_combinations = [], 0
    for labels in itertools.product(*(axes[path] for path in other_axes)):
        n_combinations += 1
        other_choices = dict(zip(other_axes, labels, strict=True))
        corners = [
            (sign, tuple((other_choices | corner)[path] for path in axes))
            for sign, corner in _signed_corners(choices, reference)
        ]
        if all(cell in cells for _, cell in corners):
            complete.append(corners)
    weighted = [(sign / len(complete), cells[cell]) for corners in complete for sign, cell in corners]
    contrast = estimate_contrast(weighted, paired=paired) if weighted else None
    sd = pooled_sd([endpoints for _, endpoints in weighted])
    return FactorialContrast(choices, reference, contrast, sd, len(complete), n_combinations)


def _signed_corners(choices: Mapping[str, str], reference: Mapping[str, str]) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield the signs and cells of a contrast: (+1, chosen) and (-1, reference) for one axis, four cells for two."""
    for picks in itertools.product((True, False), repeat=len(choices)):
        corner = {path: choices[path] if pick else reference[path] for path, pick in zip(choices, picks, strict=True)}
        yield (-1) ** picks.count(False), corner


def pairs_of_choice(outcome: Outcome, factorial: FactorialContrast) -> list[tuple[Variant, Variant]]:
    """Return the variants with the choice of a main effect and those with its reference. Interactions have none."""
    if len(factorial.choices) > 1:
        return []
    by_choices = {tuple(variant.choices.items()): variant for variant in outcome.variants}
    pairs = [
        (variant, by_choices.get(tuple({**variant.choices, **factorial.reference}.items())))
        for variant in outcome.variants
        if factorial.choices.items() <= variant.choices.items()
    ]
    return [(variant, reference) for variant, reference in pairs if reference is not None]
