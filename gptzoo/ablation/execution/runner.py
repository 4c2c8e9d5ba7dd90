"""Runs the trials of an ablation: each once, whoever starts it, however often the runner is killed.

What is done is told by files in the folders of the trials, and what is being done by locks that die with their process.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gptzoo.ablation.execution.executor import Executor, Job
from gptzoo.ablation.execution.trial import Attempt, Trial, TrialFolder
from gptzoo.ablation.records.trial import TrialState
from gptzoo.errors import Interrupted
from gptzoo.training.run.stop_request import StopRequest, listen_for_stop

_ENDED, _REFUSED, _DIVERGED, _INTERRUPTED = 0, 2, 3, 4  # exit codes of gptzoo train
_TICK = 0.5  # seconds between two looks at what runs
_GRACE = 30.0  # seconds that a trial which was asked to end has before it is killed


@dataclass(frozen=True)
class Rules:
    """What is done about trials that do not end well."""

    retries: int = 1  # after a crash or a hang; a run that diverged or was refused would do so again
    silence: float | None = 3600.0  # seconds without a step after which a trial counts as hung


@dataclass
class _Running:
    folder: TrialFolder
    handle: Any
    claim: contextlib.ExitStack
    started: float
    asked_to_end: float | None = None
    hung: bool = False


class Runner:
    """Works off a list of trials with an executor."""

    def __init__(
        self,
        trials: Sequence[Trial],
        folder: Path,
        executor: Executor,
        *,
        rules: Rules | None = None,
        until: Mapping[str, int] | None = None,
        samples: bool = False,
        arguments: Sequence[str] = (),
        watch: Callable[[Mapping[str, TrialState]], None] = lambda states: None,
    ):
        """`until` has steps by name at which trials pause; `samples` has each trial write text at its end; `arguments`
        are given to each `gptzoo train`; `watch` hears of the states whenever they may have changed."""
        self.trials = {trial.name: trial for trial in trials}
        pauses = until or {}
        self.folders = {
            name: TrialFolder(folder / "trials" / name, wants_sample=samples, until=pauses.get(name))
            for name in self.trials
        }
        self.executor = executor
        self.rules = rules or Rules()
        self.arguments = ("--no-plot" if samples else "--bare", *arguments)
        self.watch = watch
        self.running: dict[str, _Running] = {}
        self.states: dict[str, TrialState] = {}

    def run(self, *, retry_failed: bool = False) -> dict[str, TrialState]:
        """Run what is not done yet; returns the state of each trial at the end. Raises Interrupted by a signal."""
        for name, folder in self.folders.items():
            folder.prepare(self.trials[name].spec)
            if retry_failed and folder.given_up:
                folder.forgive()
        self.states = {name: folder.state for name, folder in self.folders.items()}
        with listen_for_stop() as stop, contextlib.ExitStack() as claims:
            claims.callback(self._release_all)
            with self.executor:
                while open_ones := self._open():
                    if stop:
                        self._end_all(stop)
                    self._start(open_ones)
                    self.watch(self.states)
                    if self.running:
                        self.executor.wait([one.handle for one in self.running.values()], _TICK)
                    else:  # all that is left is somebody else's
                        time.sleep(_TICK)
                    self._settle()
        self.watch(self.states)
        return self.states

    def _open(self) -> list[str]:
        """The trials that have not come to an end."""
        for name, state in self.states.items():
            if state in ("waiting", "running") and name not in self.running:
                self.states[name] = self.folders[name].state
        return [name for name, state in self.states.items() if state in ("waiting", "running")]

    def _start(self, names: Iterable[str]) -> None:
        for name in names:
            if self.executor.free_slots < 1:
                return
            if name in self.running:
                continue
            folder, claim = self.folders[name], contextlib.ExitStack()
            ours = claim.enter_context(folder.claim())
            # Only now, with the claim in hand, is what its files say true until we change it.
            if not ours or folder.given_up or folder.why_ended(0) == "":
                claim.close()
                self.states[name] = folder.state
                continue
            pause = () if folder.until is None else ("--until", str(folder.until))
            arguments = ("train", str(folder.spec), "--out", str(folder.path), "--resume", *pause, *self.arguments)
            handle = self.executor.start(Job(arguments, folder.log))
            self.running[name] = _Running(folder, handle, claim, time.monotonic())
            self.states[name] = "running"

    def _settle(self) -> None:
        """Take in what has ended, and end what has hung."""
        for name, one in list(self.running.items()):
            code = self.executor.poll(one.handle)
            if code is None:
                self._end_if_hung(one)
                continue
            folder = one.folder
            reason = folder.why_ended(code)
            if one.hung:
                reason = f"hung: no step for {self.rules.silence:g} s"
            if (reason and code != _INTERRUPTED) or one.hung:
                failures = 1 + sum(bool(attempt.reason) for attempt in folder.attempts)
                hopeless = code in (_REFUSED, _DIVERGED) and not one.hung
                attempt = Attempt(code, reason, round(time.monotonic() - one.started, 3))
                folder.note(attempt, given_up=hopeless or failures > self.rules.retries)
            del self.running[name]
            one.claim.close()
            self.states[name] = folder.state

    def _end_if_hung(self, one: _Running) -> None:
        now = time.monotonic()
        if one.asked_to_end is not None:
            if now - one.asked_to_end > _GRACE:
                self.executor.stop(one.handle, kill=True)
            return
        if self.rules.silence is None or now - one.started < self.rules.silence:
            return
        with contextlib.suppress(FileNotFoundError):
            if time.time() - one.folder.metrics.stat().st_mtime < self.rules.silence:
                return
        one.hung, one.asked_to_end = True, now
        self.executor.stop(one.handle)

    def _end_all(self, stop: StopRequest) -> None:
        """Let what runs save and end, and leave."""
        for one in self.running.values():
            self.executor.stop(one.handle)
        until = time.monotonic() + _GRACE
        while self.running and time.monotonic() < until:
            self.executor.wait([one.handle for one in self.running.values()], _TICK)
            self._settle()
        raise Interrupted(f"{stop.signal_name}: the trials that ran have saved; the same command goes on with them")

    def _release_all(self) -> None:
        for one in self.running.values():
            one.claim.close()
