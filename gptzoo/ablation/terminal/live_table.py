"""The progress of trials on stderr: a live table in a terminal, or lines in a log file."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Self

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from gptzoo.ablation.execution.runner import Runner
from gptzoo.ablation.planning.plan_types import PlannedTrial
from gptzoo.ablation.records.trial import TrialState
from gptzoo.terminal.durations import format_duration
from gptzoo.terminal.text_table import plain_console, plain_table, print_lines
from gptzoo.training.run.metrics_file import read_last_row
from gptzoo.training.tracking.progress import format_metrics

_N_ENDED_SHOWN = 12


class LiveTable:
    """The progress display of `gptzoo ablate`. Call it with the trials and their states when they may have changed."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or plain_console(stderr=True)
        self.live = Live(console=self.console, auto_refresh=False) if self.console.is_terminal else None
        self.runner: Runner | None = None
        self.states: dict[str, TrialState] = {}
        self.ended_lines: list[str] = []
        self.started = time.monotonic()
        self.n_ended_at_start = 0

    def __enter__(self) -> Self:
        if self.live is not None:
            self.live.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self.live is not None:
            self.live.__exit__(kind, error, traceback)

    def __call__(self, trials: Sequence[PlannedTrial], runner: Runner, states: Mapping[str, TrialState]) -> None:
        n_ended = sum(map(_has_ended, states.values()))
        if runner is not self.runner:  # a new phase of the ablation, with other trials
            self.runner, self.started = runner, time.monotonic()
            self.n_ended_at_start = n_ended
            self.states = dict(states)
        for trial in trials:
            if _has_ended(states[trial.name]) and states[trial.name] != self.states[trial.name]:
                position = f"{_rung_prefix(trial)}{n_ended}/{len(states)}"
                self._report_end(trial, runner, states[trial.name], position)
        self.states = dict(states)
        if self.live is not None:
            self.live.update(self._table(trials, runner, states), refresh=True)

    def _report_end(self, trial: PlannedTrial, runner: Runner, state: TrialState, position: str) -> None:
        folder = runner.folders[trial.name]
        result = folder.failure
        if state == "done":
            result = format_metrics(read_last_row(folder.metrics), trial.spec.declared_metrics)
        line = f"{position}  {state}  {trial.variant} seed {trial.seed}: {result}"
        self.ended_lines.append(line)
        if self.live is None:
            print_lines(self.console, [line])

    def _table(self, trials: Sequence[PlannedTrial], runner: Runner, states: Mapping[str, TrialState]) -> Group:
        table = plain_table("running", ">seed", ">step", "")
        for trial in trials:
            if states[trial.name] == "running":
                row = read_last_row(runner.folders[trial.name].metrics)
                metrics = format_metrics(row, trial.spec.declared_metrics)
                table.add_row(trial.variant, str(trial.seed), f"{row.get('step', 0):,}", metrics)
        counts = ", ".join(f"{n} {state}" for state, n in sorted(Counter(states.values()).items()))
        ended = [Text(line, "red" if "  failed  " in line else "") for line in self.ended_lines[-_N_ENDED_SHOWN:]]
        summary = f"{_rung_prefix(trials[0])}{counts}{self._time_left(states)}"
        return Group(*ended, table, Text(summary, "bold"))

    def _time_left(self, states: Mapping[str, TrialState]) -> str:
        """Estimate the time left from the trials that ended in this phase; "" before the first has ended."""
        n_ended = sum(map(_has_ended, states.values()))
        if n_ended == self.n_ended_at_start:
            return ""
        seconds_per_trial = (time.monotonic() - self.started) / (n_ended - self.n_ended_at_start)
        return f", about {format_duration(seconds_per_trial * (len(states) - n_ended))} left"


def _rung_prefix(trial: PlannedTrial) -> str:
    return "" if trial.rung is None else f"rung {trial.rung}, up to step {trial.pause_at:,}: "


def _has_ended(state: TrialState) -> bool:
    return state in ("done", "failed")
