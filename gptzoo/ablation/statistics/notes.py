"""What a reader must know beside the verdicts: what is missing, and what the figures take for granted and is not so."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from statistics import median

from gptzoo.ablation.records.analysis import Cost, Matched
from gptzoo.ablation.records.outcome import Outcome
from gptzoo.ablation.records.selection import Selection
from gptzoo.ablation.statistics.contrast import Endpoints
from gptzoo.ablation.statistics.effects import Question
from gptzoo.ablation.statistics.sentences import count, why_failed

_FAR = 8.0  # robust standard deviations; of normal noise with this few values, one in many thousand
_ENOUGH = 8  # values from which a robust deviation means something


def notes(
    outcome: Outcome,
    endpoints: Mapping[str, Endpoints],
    asked: Sequence[Question],
    equal_cost: Mapping[Cost, Matched],
) -> Iterator[str]:
    """In the order of how much they matter."""
    open_ones = sum(trial.state in ("waiting", "running") for trial in outcome.trials)
    if open_ones:
        yield f"{open_ones} of {count(len(outcome.trials), 'trial')} not done yet: what is said here may change."
    for variant in outcome.variants:
        if failed := outcome.failures(variant.name):
            rest = "" if not endpoints[variant.name] else " What is said of it is of the runs that went well."
            yield f"{variant.name}: {why_failed(failed, len(outcome.trials_of(variant.name)))}.{rest}"
    if outcome.selection is not None:
        yield from _selection(outcome, outcome.selection)
    yield from _pairing(outcome, endpoints)
    yield from _far_seeds(endpoints)
    yield from _effects(asked, max(map(len, endpoints.values())))
    for cost, at in equal_cost.items():
        if cut_short := [variant for variant in at.cut_short if variant not in at.untold]:
            yield (
                f"Losses at equal {cost}: {_named(cut_short)} trained on beyond that point, where its learning rate "
                "had not come to its end; planned for that length, the loss there would have been lower."
            )
        if at.untold:
            yield (
                f"Losses at equal {cost} are not told of {_named(at.untold)}: evaluations are too far apart there. "
                "Give a smaller eval.every."
            )


def _selection(outcome: Outcome, selection: Selection) -> Iterator[str]:
    """What it means that variants were selected."""
    seeds = ", ".join(map(str, selection.seeds))
    if selection.finalists is None:
        yield f"The selection goes on, by seed {seeds}: rung {len(selection.rungs)} of {selection.n_rungs}."
    elif n_stopped := sum(selection.status_of(name) == "stopped" for name in selection.ranking):
        yield (
            f"{count(n_stopped, 'variant')} of {len(outcome.variants)} were stopped early, by seed {seeds}, which "
            "nothing is compared by; one that learns slowly at first and well in the end may be among them."
        )


def _named(variants: Sequence[str]) -> str:
    """Their names; how many they are, where a list would bury the note."""
    return ", ".join(variants) if len(variants) <= 6 else count(len(variants), "variant")


def _pairing(outcome: Outcome, endpoints: Mapping[str, Endpoints]) -> Iterator[str]:
    base = set(endpoints[outcome.baseline])
    if not outcome.paired or not base:
        return
    for variant in outcome.variants:
        own = set(endpoints[variant.name])
        if not own or variant.name == outcome.baseline or own == base:
            continue
        if len(own & base) < 2 <= min(len(own), len(base)):
            yield f"{variant.name} and {outcome.baseline} share too few seeds to pair: compared as independent runs."
        elif alone := sorted(own ^ base):
            seeds = ", ".join(map(str, alone))
            yield f"{variant.name} against {outcome.baseline}: without partner and left out of it: seed {seeds}."


def _far_seeds(endpoints: Mapping[str, Endpoints]) -> Iterator[str]:
    """Seeds so far from their others that the noise is hardly normal: by the median deviation over all variants, or of
    their own variant where that is more, since variants differ in noise."""
    off = {
        name: {seed: abs(value - median(values.values())) for seed, value in values.items()}
        for name, values in endpoints.items()
        if len(values) > 2
    }
    everywhere = [distance for distances in off.values() for distance in distances.values()]
    if len(everywhere) < _ENOUGH:
        return
    for name, distances in sorted(off.items()):
        scale = 1.4826 * max(median(everywhere), median(distances.values()))
        for seed, distance in sorted(distances.items()):
            if distance > _FAR * scale > 0:
                yield (
                    f"{name}: seed {seed} ended at {endpoints[name][seed]:.4g}, far from its others. Intervals and p "
                    "values take noise for normal; one such seed widens them. Look at the run."
                )


def _effects(asked: Sequence[Question], n_seeds: int) -> Iterator[str]:
    for one in asked:
        what = " with ".join(one.choices.values())
        if one.contrast is None:
            yield f"The effect of {what} cannot be had: no combination of the other choices has all the runs for it."
            continue
        if one.contrast.n < n_seeds:
            yield f"The effect of {what} rests on {one.contrast.n} of {count(n_seeds, 'seed')}: the others lack runs."
        if one.n_averaged < one.n_combinations:
            yield (
                f"The effect of {what} is an average over {one.n_averaged} of "
                f"{count(one.n_combinations, 'combination')} of the other choices: the rest lacks runs."
            )
