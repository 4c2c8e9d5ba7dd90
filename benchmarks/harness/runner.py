"""Timing of cases: the sides take turns in each round, and the results are written after each of them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from benchmarks.harness.case import Case, LeftOut, Mismatch
from benchmarks.harness.environment import different
from benchmarks.harness.statistics import ratios, spread
from benchmarks.harness.table import markdown
from benchmarks.harness.turns import take_turns


class OtherMachine(Exception):
    """The results so far were measured in another environment."""


class Results:
    """The result file of one subject. It is replaced after each round, so an interrupted measurement continues."""

    def __init__(self, file: Path, title: str, environment: dict[str, Any], *, again: bool = False):
        """Read the results so far, unless `again`. Raises OtherMachine if they cannot be continued here."""
        self.file = file
        self.data: dict[str, Any] = {"title": title, "environment": environment, "cases": {}}
        if file.is_file() and not again:
            before = json.loads(file.read_text())
            if changes := different(before["environment"], environment):
                raise OtherMachine(
                    f"{file}: measured in another environment ({'; '.join(changes)}). Use --again, or another --out"
                )
            self.data["cases"] = before["cases"]

    def entry(self, case: Case) -> dict[str, Any]:
        """Return the results of a case so far; those with other settings or sides do not count."""
        before = self.data["cases"].get(case.name, {})
        settings = json.loads(json.dumps(dict(case.settings)))
        if before.get("settings") != settings or set(before.get("values", ())) != set(case.sides):
            before = {"settings": settings, "unit": case.unit, "values": {name: [] for name in case.sides}}
        return before

    def leave_out(self, case: LeftOut) -> None:
        """Record why a case is left out, unless it was measured before."""
        if "values" not in self.data["cases"].get(case.name, {}):
            self.put(case.name, {"status": "left out", "reason": case.reason})

    def put(self, name: str, entry: dict[str, Any]) -> None:
        """Set the results of a case and write the file and its table."""
        self.data["cases"][name] = entry
        self.file.parent.mkdir(parents=True, exist_ok=True)
        incomplete = self.file.with_suffix(".incomplete")
        incomplete.write_text(json.dumps(self.data, indent=1) + "\n")
        incomplete.replace(self.file)
        self.file.with_suffix(".md").write_text(markdown(self.data))


def run_case(case: Case, results: Results, rounds: int | None = None) -> dict[str, Any]:
    """Check a case and time the rounds that its results lack. Return its entry in the results."""
    entry = results.entry(case)
    n_rounds = rounds or case.rounds
    values: dict[str, list[float]] = entry["values"]
    done = min(map(len, values.values()))
    if done >= n_rounds and entry.get("status") == "done":
        return entry
    try:
        case.check()
    except Mismatch as error:
        entry |= {"status": "mismatch", "reason": str(error)}
        results.put(case.name, entry)
        return entry
    entry.pop("reason", None)  # of an earlier mismatch
    timed = take_turns(case.sides, n_rounds - done, warmup=case.warmup, untimed=case.untimed, wait=case.wait)
    for of_round in timed:
        for name, value in of_round.items():
            values[name].append(value)
        complete = len(values[case.base]) >= n_rounds
        entry |= {"status": "done" if complete else "interrupted", **summary(case, values)}
        results.put(case.name, entry)
    return entry


def summary(case: Case, values: dict[str, list[float]]) -> dict[str, Any]:
    """Return the medians of all sides and their ratios to the base, with their spread."""
    return {
        "sides": {name: spread(of_side) for name, of_side in values.items()},
        "ratios": {
            f"{name} / {case.base}": spread(ratios(of_side, values[case.base]))
            for name, of_side in values.items()
            if name != case.base
        },
    }


def run_subject(
    cases: Callable[[], Iterable[Case | LeftOut]], results: Results, report: Callable[[str], None], rounds: int | None
) -> bool:
    """Run all cases of a subject. Return False if any is a mismatch; a case that is left out has its reason."""
    succeeded = True
    for case in cases():
        if isinstance(case, LeftOut):
            results.leave_out(case)
            report(f"{case.name}: left out, {case.reason}")
            continue
        entry = run_case(case, results, rounds)
        succeeded &= entry["status"] == "done"
        shown = {name: ratio["median"] for name, ratio in entry.get("ratios", {}).items()}
        report(f"{case.name}: {entry['status']} {entry.get('reason') or json.dumps(shown)}")
    return succeeded
