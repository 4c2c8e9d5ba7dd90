"""How trials are doing while they run: a live table where stderr is a terminal, and lines where it is a log."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from types import TracebackType

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from gptzoo.ablation.execution.runner import Runner
from gptzoo.ablation.planning.plan_types import PlannedTrial
from gptzoo.ablation.records.trial import TrialState
from gptzoo.ablation.terminal.tables import duration, plain_console, plain_table
from gptzoo.training.run.metrics_file import last_whole_row
from gptzoo.training.tracking.progress import describe

_SHOWN = 12  # trials that ended last


class Watcher:
    """Is called with the trials and their states, whenever those may have changed."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or plain_console(stderr=True)
        self.live = Live(console=self.console, auto_refresh=False) if self.console.is_terminal else None
        self.runner: Runner | None = None
        self.states: dict[str, TrialState] = {}
        self.ended: list[str] = []  # what has been told of the trials that have ended
        self.started = time.monotonic()
        self.n_before = 0  # trials that had ended when this began

    def __enter__(self) -> Watcher:
        if self.live is not None:
            self.live.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self.live is not None:
            self.live.__exit__(kind, error, traceback)

    def __call__(self, trials: Sequence[PlannedTrial], runner: Runner, states: Mapping[str, TrialState]) -> None:
        if runner is not self.runner:  # other trials than before: tuning is done, or a rung
            self.runner, self.started = runner, time.monotonic()
            self.n_before = sum(map(_has_ended, states.values()))
            self.states = dict(states)
        n_ended = sum(map(_has_ended, states.values()))
        for trial in trials:
            if _has_ended(states[trial.name]) and states[trial.name] != self.states[trial.name]:
                self._tell(trial, runner, states[trial.name], f"{_rung(trial)}{n_ended}/{len(states)}")
        self.states = dict(states)
        if self.live is not None:
            self.live.update(self._table(trials, runner, states), refresh=True)

    def _tell(self, trial: PlannedTrial, runner: Runner, state: TrialState, place: str) -> None:
        folder = runner.folders[trial.name]
        told = describe(last_whole_row(folder.metrics)) if state == "done" else folder.given_up
        line = f"{place}  {state}  {trial.variant} seed {trial.seed}: {told}"
        self.ended.append(line)
        if self.live is None:
            self.console.print(line, markup=False, soft_wrap=True)

    def _table(self, trials: Sequence[PlannedTrial], runner: Runner, states: Mapping[str, TrialState]) -> Group:
        table = plain_table("running", ">seed", ">step", "")
        for trial in trials:
            if states[trial.name] == "running":
                row = last_whole_row(runner.folders[trial.name].metrics)
                table.add_row(trial.variant, str(trial.seed), f"{row.get('step', 0):,}", describe(row))
        counts = Counter(states.values())
        told = ", ".join(f"{n} {state}" for state, n in sorted(counts.items()))
        ended = [Text(line, "red" if "  failed  " in line else "") for line in self.ended[-_SHOWN:]]
        return Group(*ended, table, Text(f"{_rung(trials[0])}{told}{self._time_left(states)}", "bold"))

    def _time_left(self, states: Mapping[str, TrialState]) -> str:
        """By the pace since this began; nothing before the first trial has ended."""
        n_ended = sum(map(_has_ended, states.values()))
        if n_ended == self.n_before:
            return ""
        pace = (time.monotonic() - self.started) / (n_ended - self.n_before)
        return f", about {duration(pace * (len(states) - n_ended))} left"


def _rung(trial: PlannedTrial) -> str:
    return "" if trial.rung is None else f"rung {trial.rung}, to step {trial.until:,}: "


def _has_ended(state: TrialState) -> bool:
    return state in ("done", "failed")
