"""Effects of a factorial design: what a choice does on average, and what two choices do beyond the sum of both.

Both are contrasts of cells, the variants. A main effect compares a choice with the baseline's on the same axis, over
all combinations of the other axes that have both; an interaction compares what a choice does beside another choice with
what it does beside the baseline's. Combinations that lack a cell are left out of the contrast whole, rather than filled
in by a model without higher interactions.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from gptzoo.ablation.records.outcome import Outcome
from gptzoo.ablation.statistics.contrast import Contrast, Endpoints, contrast, pooled_sd

Cells = Mapping[tuple[str, ...], Endpoints]  # by the choices on all axes, in their order


@dataclass(frozen=True)
class Question:
    """A main effect (one axis) or an interaction (two), as a contrast; None where the cells for it are missing."""

    choices: Mapping[str, str]
    reference: Mapping[str, str]
    contrast: Contrast | None
    sd: float | None  # of one run over seeds, pooled over the cells
    n_averaged: int  # combinations of the other axes that it is an average over
    n_combinations: int  # that there are


def questions(outcome: Outcome, endpoints: Mapping[str, Endpoints]) -> list[Question]:
    """All main effects, then all two-way interactions; none of a design that is not factorial in two or more axes."""
    axes = {path: labels for path, labels in outcome.axes.items() if len(labels) > 1}
    if not outcome.factorial or len(axes) < 2:
        return []
    cells = {
        tuple(variant.choices[path] for path in axes): endpoints[variant.name]
        for variant in outcome.variants
        if endpoints[variant.name]
    }
    base = next(variant.choices for variant in outcome.variants if variant.name == outcome.baseline)
    asked = [*itertools.combinations(axes, 1), *itertools.combinations(axes, 2)]
    return [
        _question(cells, axes, dict(zip(paths, labels, strict=True)), base, outcome.paired)
        for paths in asked
        for labels in itertools.product(*([x for x in axes[path] if x != base[path]] for path in paths))
    ]


def _question(
    cells: Cells, axes: Mapping[str, Sequence[str]], choices: Mapping[str, str], base: Mapping[str, str], paired: bool
) -> Question:
    reference = {path: base[path] for path in choices}
    others = [path for path in axes if path not in choices]
    complete, n_combinations = [], 0
    for labels in itertools.product(*(axes[path] for path in others)):
        n_combinations += 1
        rest = dict(zip(others, labels, strict=True))
        corners = [
            (sign, tuple((rest | corner)[path] for path in axes)) for sign, corner in _corners(choices, reference)
        ]
        if all(cell in cells for _, cell in corners):
            complete.append(corners)
    weighted = [(sign / len(complete), cells[cell]) for corners in complete for sign, cell in corners]
    found = contrast(weighted, paired=paired) if weighted else None
    return Question(choices, reference, found, pooled_sd([c for _, c in weighted]), len(complete), n_combinations)


def _corners(choices: Mapping[str, str], reference: Mapping[str, str]) -> Iterator[tuple[int, dict[str, str]]]:
    """The cells of the contrast with their signs: +chosen, -reference; ++ - +- - -+ + -- for two axes."""
    for picks in itertools.product((True, False), repeat=len(choices)):
        corner = {path: choices[path] if pick else reference[path] for path, pick in zip(choices, picks, strict=True)}
        yield (-1) ** picks.count(False), corner
