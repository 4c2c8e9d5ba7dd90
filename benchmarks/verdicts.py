"""How often verdicts are right: ablations drawn from recorded endpoints whose truth is known, as JSON.

    python benchmarks/verdicts.py [--times 2000] > verdicts.json

The endpoints are those of one tiny run with 128 seeds (`benchmarks/seed_noise.py`).

"a_a"            the baseline against itself under other names, seeds of their own: how many ablations call anything
                 different; 5% would if noise were normal
"planted"        a true effect of the size that is announced as detectable with power 80%: how often it is found
"looking_again"  as "a_a" with one copy, where whoever cannot tell adds as many seeds as were said to be needed, up to
                 10, and looks once more
"together"       normal noise, four comparisons of which two are different: how often all four intervals hold
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


def drawn(rng: random.Random, losses: list[float], n: int, names: list[str]) -> dict[str, dict[int, float]]:
    """So many seeds for each name, none of them twice."""
    sample = rng.sample(list(enumerate(losses)), n * len(names))
    return {name: dict(sample[n * i : n * (i + 1)]) for i, name in enumerate(names)}


def called(sides: Mapping[str, Mapping[int, float]]) -> bool:
    from outcomes import outcome

    from gptzoo.ablation.statistics.analyse import analyse

    return any(one.verdict in ("better", "worse") for one in analyse(outcome(sides)).comparisons)


def a_a(losses: list[float], times: int, n: int, n_copies: int) -> float:
    rng, names = random.Random(1), ["baseline", *(f"copy {i}" for i in range(n_copies))]
    return sum(called(drawn(rng, losses, n, names)) for _ in range(times)) / times


def planted(losses: list[float], times: int, n: int) -> float:
    from gptzoo.ablation.statistics.power import detectable_difference

    rng, effect, found = random.Random(2), detectable_difference(stdev(losses), n), 0
    for _ in range(times):
        sides = drawn(rng, losses, n, ["baseline", "planted"])
        sides["planted"] = {seed: loss + effect for seed, loss in sides["planted"].items()}
        found += called(sides)
    return found / times


def looking_again(losses: list[float], times: int, n: int) -> float:
    from outcomes import outcome

    from gptzoo.ablation.statistics.analyse import analyse

    rng, found = random.Random(3), 0
    for _ in range(times):
        whole = {name: list(of.items()) for name, of in drawn(rng, losses, n + 10, ["baseline", "copy"]).items()}
        (first,) = analyse(outcome({name: dict(of[:n]) for name, of in whole.items()})).comparisons
        n_now = n + min(first.more_seeds or 0, 10)
        found += called({name: dict(of[:n_now]) for name, of in whole.items()}) or first.verdict in ("better", "worse")
    return found / times


def together(times: int, n: int) -> float:
    from outcomes import outcome

    from gptzoo.ablation.statistics.analyse import analyse

    rng, held, truth = random.Random(4), 0, {"a": 0.0, "b": 0.0, "c": 1.5, "d": 4.0}
    for _ in range(times):
        sides = {"base": {s: rng.gauss(0, 1) for s in range(n)}}
        sides |= {name: {s + n: rng.gauss(at, 1) for s in range(n)} for name, at in truth.items()}
        found = {one.variant: one.difference for one in analyse(outcome(sides, paired=False)).comparisons}
        held += all(found[name].low <= at <= found[name].high for name, at in truth.items())  # type: ignore[union-attr, operator]
    return held / times


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
        "a_a": {f"{copies} copies, {n} seeds": a_a(losses, times, n, copies) for copies in (1, 4) for n in (3, 5, 10)},
        "planted": {f"{n} seeds": planted(losses, times, n) for n in (3, 5, 10)},
        "looking_again": {f"{n} seeds": looking_again(losses, times, n) for n in (3, 5)},
        "together": {f"{n} seeds": together(times, n) for n in (3, 5, 10)},
    }
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
