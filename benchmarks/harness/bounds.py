"""The bounds of ratios in `benchmarks/bounds.json`, held against result files."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

BOUNDS = Path(__file__).parents[1] / "bounds.json"
CONDITIONS = {
    "median_at_least": lambda ratio, bound: ratio["median"] >= bound,
    "median_at_most": lambda ratio, bound: ratio["median"] <= bound,
    "low_at_least": lambda ratio, bound: ratio["interval"][0] >= bound,
    "high_at_least": lambda ratio, bound: ratio["interval"][1] >= bound,
}


@dataclass(frozen=True)
class Verdict:
    """The result of one bound."""

    status: str  # holds, broken or not measured
    text: str


def verdicts(folder: Path, bounds_file: Path = BOUNDS) -> Iterator[Verdict]:
    """Yield the verdict of each bound on the results in a folder."""
    for bound in json.loads(bounds_file.read_text()):
        name = f"{bound['subject']}, {bound['case']}, {bound['ratio']}"
        ratio = _find(folder, bound)
        if ratio is None:
            yield Verdict("not measured", f"{name}: {folder} has no result")
            continue
        conditions = {key: value for key, value in bound.items() if key in CONDITIONS}
        expected = {key: f"{key.replace('_', ' ')} {value}" for key, value in conditions.items()}
        broken = [expected[key] for key, value in conditions.items() if not CONDITIONS[key](ratio, value)]
        low, high = ratio["interval"]
        found = f"{name}: {ratio['median']:.3f} ({low:.3f} to {high:.3f})"
        if broken:
            yield Verdict("broken", f"{found}, expected {' and '.join(broken)}")
        else:
            yield Verdict("holds", f"{found}, {' and '.join(expected.values())}")


def _find(folder: Path, bound: dict[str, Any]) -> dict[str, Any] | None:
    """Return the ratio of a bound in the complete results of its subject and device, or None."""
    file = folder / f"{bound['subject']}-{bound.get('device', 'cpu')}.json"
    if not file.is_file():
        return None
    entry = json.loads(file.read_text())["cases"].get(bound["case"], {})
    ratio: dict[str, Any] | None = entry.get("ratios", {}).get(bound["ratio"])
    return ratio if entry.get("status") == "done" else None
