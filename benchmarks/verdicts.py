"""Measure how often verdicts are right, on ablations with known truth drawn from recorded endpoints. Prints JSON.

    python benchmarks/verdicts.py [--times 2000] > verdicts.json

The endpoints are those of one tiny run with 128 seeds (`benchmarks/seed_noise.py`).

"a_a"            The baseline against copies of itself with other seeds. How many ablations call any copy different?
                 With normal noise, 5% would.
"planted"        A true effect of the size that is announced as detectable with a power of 80%. How often is it found?
"looking_again"  Like "a_a" with one copy. If the verdict is "cannot tell", the recommended number of seeds is added, up
                 to 10, and the ablation is analysed once more.
"together"       Normal noise and four comparisons, two of them different. How often do all four intervals contain the
                 true differences?
"""

from __future__ import annotations

import argparse
import json
import random
import sys
from collections.abc import Mapping
from pathlib import Path
from statistics import stdev
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))


def draw_sides(rng: random.Random, losses: list[float], n: int, names: list[str]) -> dict[str, dict[int, float]]:
    """Draw n seeds for each name, all of them different."""
    sample = rng.sample(list(enumerate(losses)), n * len(names))
    return {name: dict(sample[n * i : n * (i + 1)]) for i, name in enumerate(names)}


def finds_difference(sides: Mapping[str, Mapping[int, float]]) -> bool:
    """Return True if any side is called better or worse than the first."""
    from outcomes import outcome

    from gptzoo.ablation.statistics.analyse import analyse

    return any(one.verdict in ("better", "worse") for one in analyse(outcome(sides)).comparisons)


def simulate_copies(losses: list[float], times: int, n: int, n_copies: int) -> float:
    """Compare the baseline with copies of itself. Return how often any is called different."""
    rng, names = random.Random(1), ["baseline", *(f"copy {i}" for i in range(n_copies))]
    return sum(finds_difference(draw_sides(rng, losses, n, names)) for _ in range(times)) / times


def simulate_planted(losses: list[float], times: int, n: int) -> float:
    """Plant an effect of the detectable size. Return how often it is found."""
    from gptzoo.ablation.statistics.power import detectable_difference

    rng, effect, n_found = random.Random(2), detectable_difference(stdev(losses), n), 0
    for _ in range(times):
        sides = draw_sides(rng, losses, n, ["baseline", "planted"])
        sides["planted"] = {seed: loss + effect for seed, loss in sides["planted"].items()}
        n_found += finds_difference(sides)
    return n_found / times


def simulate_adding_seeds(losses: list[float], times: int, n: int) -> float:
    """Compare the baseline with a copy, adding the recommended seeds once. Return how often it is called different."""
    from outcomes import outcome

    from gptzoo.ablation.statistics.analyse import analyse

    rng, n_found = random.Random(3), 0
    for _ in range(times):
        sides = draw_sides(rng, losses, n + 10, ["baseline", "copy"])
        runs = {name: list(by_seed.items()) for name, by_seed in sides.items()}
        (first,) = analyse(outcome({name: dict(of_side[:n]) for name, of_side in runs.items()})).comparisons
        n_now = n + min(first.more_seeds or 0, 10)
        second = finds_difference({name: dict(of_side[:n_now]) for name, of_side in runs.items()})
        n_found += second or first.verdict in ("better", "worse")
    return n_found / times


def simulate_intervals(times: int, n: int) -> float:
    """Draw normal noise around known means. Return how often all intervals contain the true differences."""
    from outcomes import outcome

    from gptzoo.ablation.statistics.analyse import analyse

    rng, n_covered, truth = random.Random(4), 0, {"a": 0.0, "b": 0.0, "c": 1.5, "d": 4.0}
    for _ in range(times):
        sides = {"base": {s: rng.gauss(0, 1) for s in range(n)}}
        sides |= {name: {s + n: rng.gauss(mean, 1) for s in range(n)} for name, mean in truth.items()}
        found = {one.variant: one.difference for one in analyse(outcome(sides, paired=False)).comparisons}
        n_covered += all(found[name].low <= mean <= found[name].high for name, mean in truth.items())  # type: ignore[union-attr, operator]
    return n_covered / times


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=int, default=2000)
    times = parser.parse_args().times
    from outcomes import recorded

    losses = list(recorded()["baseline"].values())
    result: dict[str, Any] = {
        "times": times,
        "n_recorded": len(losses),
        "sd": stdev(losses),
        "a_a": {
            f"{copies} copies, {n} seeds": simulate_copies(losses, times, n, copies)
            for copies in (1, 4)
            for n in (3, 5, 10)
        },
        "planted": {f"{n} seeds": simulate_planted(losses, times, n) for n in (3, 5, 10)},
        "looking_again": {f"{n} seeds": simulate_adding_seeds(losses, times, n) for n in (3, 5)},
        "together": {f"{n} seeds": simulate_intervals(times, n) for n in (3, 5, 10)},
    }
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
