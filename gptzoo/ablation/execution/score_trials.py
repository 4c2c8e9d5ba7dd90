"""Scoring of the trained trials of an ablation on tasks of lm-evaluation-harness, as jobs of the executor."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gptzoo.ablation.execution.executor import Executor, Job
from gptzoo.ablation.execution.trial_folder import TrialFolder
from gptzoo.ablation.records.scores import read_scores, write_failure
from gptzoo.ablation.wording import signal_name
from gptzoo.errors import InputError, Interrupted
from gptzoo.spec.ablation import HarnessSpec
from gptzoo.training.run.stop_request import StopRequest, listen_for_stop

_POLL_SECONDS = 0.5
_GRACE_SECONDS = 30.0


@dataclass
class _Scoring:
    """A job that scores a trial, and the lock of the trial's folder."""

    handle: Any  # of the executor
    lock: contextlib.ExitStack
    tasks: list[str]


class TrialScorer:
    """Scores each finished trial that has no scores yet on a task of the spec, once.

    A failed attempt is recorded with its reason. It is repeated up to `retries` times after a crash, and after that
    only with `retry_failed`.
    """

    def __init__(
        self,
        trials: Sequence[TrialFolder],
        harness: HarnessSpec,
        include_path: Path | None,
        executor: Executor[Any],
        *,
        retries: int = 1,
        arguments: Sequence[str] = (),
    ):
        self.trials = {trial.path.name: trial for trial in trials}
        self.harness = harness
        self.settings = harness.model_dump(mode="json")
        self.include_path = include_path
        self.executor = executor
        self.arguments = arguments
        self.attempts_left = dict.fromkeys(self.trials, retries + 1)
        self.running: dict[str, _Scoring] = {}

    def run(self, *, retry_failed: bool = False) -> None:
        """Score the trials. Raises Interrupted after a signal."""
        if not retry_failed:
            for name, trial in self.trials.items():
                if read_scores(trial.path, self.settings).failure_of(self.harness.tasks):
                    self.attempts_left[name] = 0
        with listen_for_stop() as stop, contextlib.ExitStack() as locks:
            locks.callback(self._release_locks)
            if not self._unscored():
                return
            with self.executor:
                while unscored := self._unscored():
                    if stop:
                        self._stop_all(stop)
                    self._start(unscored)
                    if self.running:
                        self.executor.wait([scoring.handle for scoring in self.running.values()], _POLL_SECONDS)
                    else:  # other runners score the trials that are left
                        time.sleep(_POLL_SECONDS)
                    self._poll()

    def _missing(self, name: str) -> list[str]:
        return read_scores(self.trials[name].path, self.settings).missing(self.harness.tasks)

    def _unscored(self) -> list[str]:
        return [
            name
            for name, trial in self.trials.items()
            if name in self.running or (self.attempts_left[name] and self._missing(name) and trial.state == "done")
        ]

    def _start(self, names: Sequence[str]) -> None:
        for name in names:
            if self.executor.free_slots < 1:
                return
            if name in self.running:
                continue
            trial, lock = self.trials[name], contextlib.ExitStack()
            acquired = lock.enter_context(trial.acquire())
            missing = self._missing(name)
            if not acquired or not missing:
                lock.close()
                continue
            request = {**self.settings, "tasks": missing}
            folder = () if self.include_path is None else ("--include-path", str(self.include_path))
            arguments = ("score-tasks", str(trial.path), json.dumps(request), *folder, *self.arguments)
            self.attempts_left[name] -= 1
            handle = self.executor.start(Job(arguments, trial.path / "scores.log"))
            self.running[name] = _Scoring(handle, lock, missing)

    def _poll(self) -> None:
        for name, scoring in list(self.running.items()):
            code = self.executor.poll(scoring.handle)
            if code is None:
                continue
            del self.running[name]
            trial = self.trials[name]
            if code == InputError.exit_code:
                self.attempts_left[name] = 0  # it would fail again in the same way
            if not self.attempts_left[name] and self._missing(name):
                write_failure(trial.path, self.settings, scoring.tasks, _describe_exit(code, trial.path))
            scoring.lock.close()

    def _stop_all(self, stop: StopRequest) -> None:
        """End the running jobs, whose tasks the next run scores from their start, and raise Interrupted."""
        for scoring in self.running.values():
            self.executor.stop(scoring.handle)
        deadline = time.monotonic() + _GRACE_SECONDS
        while time.monotonic() < deadline and any(self.executor.poll(s.handle) is None for s in self.running.values()):
            self.executor.wait([scoring.handle for scoring in self.running.values()], _POLL_SECONDS)
        raise Interrupted(f"{stop.signal_name}: all trials are trained; run the same command to score the rest")

    def _release_locks(self) -> None:
        for scoring in self.running.values():
            scoring.lock.close()


def _describe_exit(code: int, trial: Path) -> str:
    if code < 0:
        return f"killed by {signal_name(-code)}"
    with contextlib.suppress(OSError):
        lines = (trial / "scores.log").read_text(encoding="utf-8", errors="replace").strip().splitlines()
        errors = [line for line in lines if "error" in line.lower()] or lines
        if errors:
            return errors[-1].replace(f"{trial}/", "").strip()
    return f"exited with code {code}"
