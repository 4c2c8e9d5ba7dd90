"""The runner of an ablation's trials, which trains each trial exactly once.

Several runners may work on one ablation, and each may be killed at any time. Files in the folders of the
trials record which trials are done. Locks record which trials are running: the system releases them when the process
that holds them ends.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gptzoo.ablation.execution.executor import Executor, Job
from gptzoo.ablation.execution.trial_folder import Attempt, Trial, TrialFolder
from gptzoo.ablation.records.trial import TrialState
from gptzoo.errors import Diverged, InputError, Interrupted
from gptzoo.training.run.stop_request import StopRequest, listen_for_stop

_POLL_SECONDS = 0.5
_GRACE_SECONDS = 30.0  # time between SIGTERM and SIGKILL
_NOT_RETRIED = (InputError.exit_code, Diverged.exit_code)  # such a run would fail again in the same way


@dataclass(frozen=True)
class RetryPolicy:
    """When a trial counts as hung, and how often it is retried after a crash or a hang."""

    retries: int = 1
    hang_timeout: float | None = 3600.0  # seconds without a training step; None waits for ever


@dataclass
class _RunningTrial:
    folder: TrialFolder
    handle: Any  # of the executor
    lock: contextlib.ExitStack
    started: float
    stop_sent: float | None = None  # when SIGTERM was sent
    hung: bool = False


class Runner:
    """A runner of a list of trials with an executor."""

    def __init__(
        self,
        trials: Sequence[Trial],
        folder: Path,
        executor: Executor[Any],
        *,
        retry_policy: RetryPolicy | None = None,
        pauses: Mapping[str, int] | None = None,
        samples: bool = False,
        arguments: Sequence[str] = (),
        on_change: Callable[[Mapping[str, TrialState]], None] = lambda states: None,
    ):
        """Prepare to run `trials` in `folder`/trials.

        `pauses` are the steps at which trials pause, by name. With `samples`, each trial generates text at its end.
        `arguments` are passed to each `gptzoo train`. `on_change` is called with the states of all trials whenever they
        may have changed.
        """
        self.trials = {trial.name: trial for trial in trials}
        pauses = pauses or {}
        self.folders = {
            name: TrialFolder(folder / "trials" / name, needs_sample=samples, pause_at=pauses.get(name))
            for name in self.trials
        }
        self.executor = executor
        self.retry_policy = retry_policy or RetryPolicy()
        self.arguments = ("--no-plot" if samples else "--bare", *arguments)
        self.on_change = on_change
        self.running: dict[str, _RunningTrial] = {}
        self.states: dict[str, TrialState] = {}

    def run(self, *, retry_failed: bool = False) -> dict[str, TrialState]:
        """Run all trials that are not done, and return the final state of each. Raises Interrupted after a signal."""
        for name, folder in self.folders.items():
            folder.create(self.trials[name].spec)
            if retry_failed and folder.failure:
                folder.clear_failure()
                folder.create(self.trials[name].spec)
        self.states = {name: folder.state for name, folder in self.folders.items()}
        with listen_for_stop() as stop, contextlib.ExitStack() as locks:
            locks.callback(self._release_locks)
            with self.executor:
                while unfinished := self._unfinished():
                    if stop:
                        self._stop_all(stop)
                    self._start(unfinished)
                    self.on_change(self.states)
                    if self.running:
                        self.executor.wait([trial.handle for trial in self.running.values()], _POLL_SECONDS)
                    else:  # other runners have all trials that are left
                        time.sleep(_POLL_SECONDS)
                    self._poll_running()
        self.on_change(self.states)
        return self.states

    def _unfinished(self) -> list[str]:
        """Return the trials that are neither done nor failed. Re-read the states of those that other runners run."""
        for name, state in self.states.items():
            if state in ("waiting", "running") and name not in self.running:
                self.states[name] = self.folders[name].state
        return [name for name, state in self.states.items() if state in ("waiting", "running")]

    def _start(self, names: Iterable[str]) -> None:
        """Start as many of the trials as there are free slots, except those of other runners."""
        for name in names:
            if self.executor.free_slots < 1:
                return
            if name in self.running:
                continue
            folder, lock = self.folders[name], contextlib.ExitStack()
            acquired = lock.enter_context(folder.acquire())
            # Another runner may have ended the trial since we read its state. Under the lock nobody else changes it.
            if not acquired or folder.failure or folder.describe_exit(0) == "":
                lock.close()
                self.states[name] = folder.state
                continue
            pause = () if folder.pause_at is None else ("--until", str(folder.pause_at))
            arguments = ("train", str(folder.spec), "--out", str(folder.path), "--resume", *pause, *self.arguments)
            handle = self.executor.start(Job(arguments, folder.log))
            self.running[name] = _RunningTrial(folder, handle, lock, time.monotonic())
            self.states[name] = "running"

    def _poll_running(self) -> None:
        """Record the trials that have ended, and stop those that hang."""
        for name, trial in list(self.running.items()):
            code = self.executor.poll(trial.handle)
            if code is None:
                self._stop_if_hung(trial)
                continue
            self._record_end(trial, code)
            del self.running[name]
            trial.lock.close()
            self.states[name] = trial.folder.state

    def _record_end(self, trial: _RunningTrial, code: int) -> None:
        reason = trial.folder.describe_exit(code)
        if trial.hung:
            reason = f"hung: no step for {self.retry_policy.hang_timeout:g} s"
        elif not reason or code == Interrupted.exit_code:
            return
        n_failures = 1 + sum(bool(attempt.reason) for attempt in trial.folder.attempts)
        retry_is_useless = code in _NOT_RETRIED and not trial.hung
        attempt = Attempt(code, reason, round(time.monotonic() - trial.started, 3))
        trial.folder.record_attempt(attempt, is_last=retry_is_useless or n_failures > self.retry_policy.retries)

    def _stop_if_hung(self, trial: _RunningTrial) -> None:
        timeout, now = self.retry_policy.hang_timeout, time.monotonic()
        if trial.stop_sent is not None:
            if now - trial.stop_sent > _GRACE_SECONDS:
                self.executor.stop(trial.handle, kill=True)
            return
        if timeout is None or now - trial.started < timeout:
            return
        with contextlib.suppress(FileNotFoundError):
            if time.time() - trial.folder.metrics.stat().st_mtime < timeout:
                return
        trial.hung, trial.stop_sent = True, now
        self.executor.stop(trial.handle)

    def _stop_all(self, stop: StopRequest) -> None:
        """Let the running trials save and end, then raise Interrupted."""
        for trial in self.running.values():
            self.executor.stop(trial.handle)
        deadline = time.monotonic() + _GRACE_SECONDS
        while self.running and time.monotonic() < deadline:
            self.executor.wait([trial.handle for trial in self.running.values()], _POLL_SECONDS)
            self._poll_running()
        raise Interrupted(f"{stop.signal_name}: the running trials have saved; run the same command to continue")

    def _release_locks(self) -> None:
        for trial in self.running.values():
            trial.lock.close()
