"""The state of a selection by successive halving: its rungs, and the status of each variant."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from gptzoo.ablation.records.trial import TrialState

RungStatus = Literal["open", "on", "stopped", "failed"]  # "open": undecided, "on": promoted; kept in selection.csv


@dataclass(frozen=True)
class RungTrial:
    """The progress of a trial towards the step of a rung. It is done when it reaches that step."""

    state: TrialState
    value: float | None = None  # the metric at the step; None if it is not known yet or NaN
    reason: str = ""  # why the trial failed


@dataclass(frozen=True)
class RungEntry:
    """A variant in a rung."""

    variant: str
    step: int  # the step at which the variant's trials pause
    trials: Mapping[int, RungTrial]  # by seed
    mean: float | None  # mean metric over the seeds; None until all trials are done, or if one failed
    status: RungStatus
    reason: str = ""  # why the variant failed


@dataclass(frozen=True)
class Rung:
    """One round of the selection."""

    number: int  # counted from 1
    n_promoted: int  # variants to promote, without the baseline
    entries: Sequence[RungEntry]  # best first; entries without a mean come last, in the order of the design

    @property
    def n_candidates(self) -> int:
        """The number of variants in the rung, without the baseline."""
        return len(self.entries) - 1

    @property
    def decided(self) -> bool:
        """True when every entry has been promoted or stopped, or has failed."""
        return all(entry.status != "open" for entry in self.entries)

    def promoted(self, baseline: str) -> list[str]:
        """Return the promoted variants without the baseline, best first."""
        return [entry.variant for entry in self.entries if entry.status == "on" and entry.variant != baseline]


@dataclass(frozen=True)
class Selection:
    """The rungs of a selection so far, and its finalists."""

    baseline: str  # always promoted, and not counted among the promoted variants
    seeds: Sequence[int]
    n_rungs: int
    rungs: Sequence[Rung]  # the decided rungs, then the current one
    finalists: Sequence[str] | None  # best first, without the baseline; None until they are decided
    searching: bool = False  # True while the search will suggest more variants

    @property
    def ranking(self) -> list[str]:
        """All variants that entered a rung: those that got furthest first, then the best."""
        by_rung = [entry.variant for rung in reversed(self.rungs) for entry in rung.entries]
        return list(dict.fromkeys([*(self.finalists or ()), *by_rung]))

    def describe(self, variant: str, metric: str) -> str:
        """Say in which rung a variant is, or where it was stopped; "" for the baseline and the finalists."""
        if self._is_finalist(variant):
            return ""
        rung, entry = self._last_entry(variant)
        position = f"rung {rung.number}, step {entry.step:,}"
        if entry.status == "open":
            return f"in {position}"
        if entry.status == "failed":
            return f"failed before {position}"
        ranked = [entry.variant for entry in rung.entries if entry.mean is not None and entry.variant != self.baseline]
        rank, n_promoted = ranked.index(variant) + 1, len(rung.promoted(self.baseline))
        result = f"{metric} {entry.mean:.4f}, rank {rank} of {rung.n_candidates}, {n_promoted} promoted"
        return f"stopped at {position}: {result}"

    def status_of(self, variant: str) -> RungStatus:
        """Return the status of a variant in the last rung that it entered."""
        return "on" if self._is_finalist(variant) else self._last_entry(variant)[1].status

    def failure_reason(self, variant: str) -> str:
        """Return why a variant failed, or "" if it did not."""
        return self._last_entry(variant)[1].reason

    def failures(self) -> list[str]:
        """Return a sentence for each variant that is out of the selection because a trial failed."""
        return [
            f"{entry.variant} before rung {rung.number}, step {entry.step:,}: {entry.reason}"
            for rung in self.rungs
            for entry in rung.entries
            if entry.status == "failed"
        ]

    def _is_finalist(self, variant: str) -> bool:
        return variant == self.baseline or variant in (self.finalists or ())

    def _last_entry(self, variant: str) -> tuple[Rung, RungEntry]:
        return next(
            (rung, entry) for rung in reversed(self.rungs) for entry in rung.entries if entry.variant == variant
        )
