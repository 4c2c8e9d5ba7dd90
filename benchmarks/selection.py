"""Simulate the effect of successive halving from 199 variants to 7 on the verdicts. Prints JSON.

    python benchmarks/selection.py [--times 1000] > selection.json

Endpoints are drawn from those of one tiny run with 128 seeds (`benchmarks/seed_noise.py`). Here a rung is as
informative as the end of training: variants are selected by an endpoint, too, on one seed. Comparisons with the
baseline have five seeds per side.

"nothing_in_it"  All variants are copies of the baseline. How often is any finalist called different, if finalists are
                 compared on the seeds that selected them (the mean of five), or on other seeds?
"lead"           In the same ablations: the apparent lead of the first finalist, in standard deviations of a run.
"planted"        One variant is better by some standard deviations. How often is it found among 199, by halving on one
                 seed and a comparison on five others, or by a full grid with five seeds each and 199 comparisons?
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

N_VARIANTS, N_FINALISTS, N_SEEDS = 199, 7, 5
RECORDED = Path(__file__).parents[1] / "tests" / "ablation" / "data" / "seed_noise.csv"


def recorded_losses() -> list[float]:
    """Read the recorded losses of the baseline."""
    rows = [line.split(",") for line in RECORDED.read_text().splitlines()]
    variant, loss = rows[0].index("variant"), rows[0].index("loss")
    return [float(row[loss]) for row in rows[1:] if row[variant] == "baseline"]


def finalists(values: Mapping[str, Sequence[float]]) -> list[str]:
    """Return the variants that one rung promotes, by the means of their values. The first variant is the baseline."""
    selection = select(
        {name: [1] for name in values},
        next(iter(values)),
        eta=N_VARIANTS / N_FINALISTS,
        seeds=range(len(values["v0"])),
        read_trial=lambda variant, seed, step: RungTrial("done", values[variant][seed]),
    )
    return list(selection.finalists or ())


def different(ends: Mapping[str, Sequence[float]], names: Sequence[str]) -> set[str]:
    """Return the variants that are called better or worse than v0, with Holm's correction over all names."""
    sides = {name: dict(enumerate(ends[name])) for name in ("v0", *names)}
    contrasts = [estimate_contrast([(1, sides[name]), (-1, sides["v0"])], paired=False) for name in names]
    judged = apply_holm_correction(contrasts, alpha=0.05, margin=0.001)
    return {name for name, one in zip(names, judged, strict=True) if one and one.verdict in ("better", "worse")}


def simulate_copies(losses: Sequence[float], times: int) -> dict[str, Any]:
    """Simulate ablations in which every variant is the baseline."""
    rng, sd = random.Random(1), stdev(losses)
    n_called, leads = {"same seeds": 0, "own seeds": 0}, {"same seeds": [], "own seeds": []}  # type: ignore[var-annotated]
    for _ in range(times):
        first, second = ({f"v{i}": rng.choices(losses, k=N_SEEDS) for i in range(N_VARIANTS + 1)} for _ in range(2))
        for seeds, selecting, ends in (
            ("same seeds", first, first),
            ("own seeds", {name: values[:1] for name, values in first.items()}, second),
        ):
            names = finalists(selecting)
            n_called[seeds] += bool(different(ends, names))
            leads[seeds].append((fmean(ends["v0"]) - fmean(ends[names[0]])) / sd)
    return {
        "nothing_in_it": {seeds: n / times for seeds, n in n_called.items()},
        "lead": {seeds: fmean(values) for seeds, values in leads.items()},
    }


def simulate_planted(losses: Sequence[float], times: int, effect: float) -> dict[str, float]:
    """Simulate ablations in which v1 is better by `effect` standard deviations. Return how often it is found."""
    rng, sd = random.Random(2), stdev(losses)
    n_found = {"in the final": 0, "halving": 0, "full grid": 0}
    for _ in range(times):
        selecting, ends = (
            {f"v{i}": [x - effect * sd * (i == 1) for x in rng.choices(losses, k=k)] for i in range(N_VARIANTS + 1)}
            for k in (1, N_SEEDS)
        )
        names = finalists(selecting)
        n_found["in the final"] += "v1" in names
        n_found["halving"] += "v1" in names and "v1" in different(ends, names)
        n_found["full grid"] += "v1" in different(ends, [name for name in ends if name != "v0"])
    return {design: n / times for design, n in n_found.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=int, default=1000)
    times = parser.parse_args().times
    losses = recorded_losses()
    result: dict[str, Any] = {
        "times": times,
        "n_recorded": len(losses),
        "variants": N_VARIANTS,
        "finalists": N_FINALISTS,
        "seeds": N_SEEDS,
        **simulate_copies(losses, times),
        "planted": {f"{effect:g} sd": simulate_planted(losses, times, effect) for effect in (2.0, 3.0, 4.0)},
    }
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
