"""What selecting does to verdicts: 199 variants that halving brings down to 7, as JSON.

    python benchmarks/selection.py [--times 1000] > selection.json

Endpoints are drawn from those of one tiny run with 128 seeds (`benchmarks/seed_noise.py`). A rung tells as much as the
end here: what selects a variant is an endpoint too, on one seed. Comparisons with the baseline have five seeds a side.

"nothing_in_it"  all variants are the baseline under other names: how often any finalist is called different, where
                 finalists are compared on the seeds that chose them (the mean of five), and on seeds of their own
"lead"           in the same ablations, how far the first finalist seems to be ahead, in standard deviations of a run
"planted"        one variant is better by so many standard deviations: how often it is found among 199 by halving on
                 one seed and five of its own, and by a full grid with five seeds each, all 199 being compared
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from gptzoo.ablation.records.selection import RungTrial
from gptzoo.ablation.selection.halving import select
from gptzoo.ablation.statistics.contrast import estimate_contrast
from gptzoo.ablation.statistics.multiple_comparisons import apply_holm_correction

N, KEPT, SEEDS = 199, 7, 5
RECORDED = Path(__file__).parents[1] / "tests" / "ablation" / "data" / "seed_noise.csv"


def recorded() -> list[float]:
    rows = [line.split(",") for line in RECORDED.read_text().splitlines()]
    variant, loss = rows[0].index("variant"), rows[0].index("loss")
    return [float(row[loss]) for row in rows[1:] if row[variant] == "baseline"]


def finalists(chosen_by: Mapping[str, Sequence[float]]) -> list[str]:
    """Who goes on from one rung, by the means of these values; the first is the baseline."""
    found = select(
        {name: [1] for name in chosen_by},
        next(iter(chosen_by)),
        eta=N / KEPT,
        seeds=range(len(chosen_by["v0"])),
        look=lambda variant, seed, step: RungTrial("done", chosen_by[variant][seed]),
    )
    return list(found.finalists or ())


def different(ends: Mapping[str, Sequence[float]], names: Sequence[str]) -> set[str]:
    """Who is called better or worse than v0, with Holm's correction over all of the names."""
    sides = {name: dict(enumerate(ends[name])) for name in ("v0", *names)}
    contrasts = [estimate_contrast([(1, sides[name]), (-1, sides["v0"])], paired=False) for name in names]
    judged = apply_holm_correction(contrasts, alpha=0.05, margin=0.001)
    return {name for name, one in zip(names, judged, strict=True) if one and one.verdict in ("better", "worse")}


def nothing_in_it(losses: Sequence[float], times: int) -> dict[str, Any]:
    rng, sd = random.Random(1), stdev(losses)
    called, leads = {"same seeds": 0, "own seeds": 0}, {"same seeds": [], "own seeds": []}  # type: ignore[var-annotated]
    for _ in range(times):
        first, second = ({f"v{i}": rng.choices(losses, k=SEEDS) for i in range(N + 1)} for _ in range(2))
        for how, choosing, ends in (
            ("same seeds", first, first),
            ("own seeds", {name: of[:1] for name, of in first.items()}, second),
        ):
            names = finalists(choosing)
            called[how] += bool(different(ends, names))
            leads[how].append((fmean(ends["v0"]) - fmean(ends[names[0]])) / sd)
    return {
        "nothing_in_it": {how: n / times for how, n in called.items()},
        "lead": {how: fmean(of) for how, of in leads.items()},
    }


def planted(losses: Sequence[float], times: int, effect: float) -> dict[str, float]:
    rng, sd = random.Random(2), stdev(losses)
    found = {"in the final": 0, "halving": 0, "full grid": 0}
    for _ in range(times):
        choosing, ends = (
            {f"v{i}": [x - effect * sd * (i == 1) for x in rng.choices(losses, k=k)] for i in range(N + 1)}
            for k in (1, SEEDS)
        )
        names = finalists(choosing)
        found["in the final"] += "v1" in names
        found["halving"] += "v1" in names and "v1" in different(ends, names)
        found["full grid"] += "v1" in different(ends, [name for name in ends if name != "v0"])
    return {how: n / times for how, n in found.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=int, default=1000)
    times = parser.parse_args().times
    losses = recorded()
    result: dict[str, Any] = {
        "times": times,
        "n_recorded": len(losses),
        "variants": N,
        "finalists": KEPT,
        "seeds": SEEDS,
        **nothing_in_it(losses, times),
        "planted": {f"{effect:g} sd": planted(losses, times, effect) for effect in (2.0, 3.0, 4.0)},
    }
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
