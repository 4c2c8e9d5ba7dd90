"""How trials are doing while they run: a live table where stderr is a terminal, and lines where it is a log."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from gptzoo.ablation.plan import PlannedTrial
from gptzoo.ablation.runner import Runner
from gptzoo.ablation.tables import duration, plain_console, plain_table
from gptzoo.ablation.trial import State
from gptzoo.training.progress import describe

_TAIL = 4096  # bytes at the end of a metrics file, which hold its last row mostly
_SHOWN = 12  # trials that ended last


class Watcher:
    """Is called with the trials and their states, whenever those may have changed."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or plain_console(stderr=True)
        self.live = Live(console=self.console, auto_refresh=False) if self.console.is_terminal else None
        self.states: dict[str, State] = {}
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

    def __call__(self, trials: Sequence[PlannedTrial], runner: Runner, states: Mapping[str, State]) -> None:
        if not states.keys() <= self.states.keys():  # other trials than before: tuning is done
            self.started, self.n_before = time.monotonic(), sum(map(_has_ended, states.values()))
            self.states = dict(states)
        n_ended = sum(map(_has_ended, states.values()))
        for trial in trials:
            if _has_ended(states[trial.name]) and states[trial.name] != self.states[trial.name]:
                self._tell(trial, runner, states[trial.name], f"{n_ended}/{len(states)}")
        self.states = dict(states)
        if self.live is not None:
            self.live.update(self._table(trials, runner, states), refresh=True)

    def _tell(self, trial: PlannedTrial, runner: Runner, state: State, place: str) -> None:
        folder = runner.folders[trial.name]
        told = describe(last_row(folder.metrics)) if state == "done" else folder.given_up
        line = f"{place}  {state}  {trial.variant} seed {trial.seed}: {told}"
        self.ended.append(line)
        if self.live is None:
            self.console.print(line, markup=False, soft_wrap=True)

    def _table(self, trials: Sequence[PlannedTrial], runner: Runner, states: Mapping[str, State]) -> Group:
        table = plain_table("running", ">seed", ">step", "")
        for trial in trials:
            if states[trial.name] == "running":
                row = last_row(runner.folders[trial.name].metrics)
                table.add_row(trial.variant, str(trial.seed), f"{row.get('step', 0):,}", describe(row))
        counts = Counter(states.values())
        told = ", ".join(f"{n} {state}" for state, n in sorted(counts.items()))
        ended = [Text(line, "red" if "  failed  " in line else "") for line in self.ended[-_SHOWN:]]
        return Group(*ended, table, Text(f"{told}{self._time_left(states)}", "bold"))

    def _time_left(self, states: Mapping[str, State]) -> str:
        """By the pace since this began; nothing before the first trial has ended."""
        n_ended = sum(map(_has_ended, states.values()))
        if n_ended == self.n_before:
            return ""
        pace = (time.monotonic() - self.started) / (n_ended - self.n_before)
        return f", about {duration(pace * (len(states) - n_ended))} left"


def last_row(metrics: Path) -> dict[str, Any]:
    """The last whole row of a run that may be going on, without reading all of it; {} before there is one."""
    try:
        with open(metrics, "rb") as file:
            size, n_bytes = file.seek(0, 2), _TAIL
            while True:
                first = max(0, size - n_bytes)
                file.seek(first)
                *lines, _ = file.read(size - first).split(b"\n")
                if len(lines) > 1 or first == 0:
                    break
                n_bytes *= 2  # a row with the load of each expert of each layer is long
    except FileNotFoundError:
        return {}
    row: dict[str, Any] = json.loads(lines[-1]) if lines else {}
    return row


def _has_ended(state: State) -> bool:
    return state in ("done", "failed")
