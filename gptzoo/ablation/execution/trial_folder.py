"""The folder of a trial. Its files record the state of the trial, so that any process can read it."""

from __future__ import annotations

import json
import re
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import filelock

from gptzoo.ablation.records.trial import TrialState
from gptzoo.checkpoint.checkpoints import checkpoint_path
from gptzoo.errors import Diverged, InputError, Interrupted
from gptzoo.spec.provenance import add_provenance
from gptzoo.spec.run import RunSpec
from gptzoo.training.run.metrics_file import read_last_row
from gptzoo.utils.atomic import write_json

_EXIT_MEANINGS = {InputError.exit_code: "refused", Diverged.exit_code: "diverged", Interrupted.exit_code: "interrupted"}


class Trial(Protocol):
    """A run with a name, as the runner sees it."""

    @property
    def name(self) -> str:
        """The name of the trial's folder, relative to the folder of all trials."""

    @property
    def spec(self) -> RunSpec: ...


@dataclass(frozen=True)
class Attempt:
    """One process that worked on a trial, and how it ended."""

    code: int  # exit code, negative for the signal that killed the process
    reason: str  # why it failed, or ""
    seconds: float


class TrialFolder:
    """The files of one trial: those of its run, and spec.json, train.log and attempts.json.

    A trial is done when its run is done. With `needs_sample`, its sample must have been written too, unless all
    attempts to write it failed. With `pause_at`, the trial is done when it has reached that step.
    """

    def __init__(self, path: Path, *, needs_sample: bool = False, pause_at: int | None = None):
        self.path = path
        self.needs_sample = needs_sample
        self.pause_at = pause_at
        self.spec = path / "spec.json"
        self.log = path / "train.log"
        self.metrics = path / "metrics.jsonl"

    def create(self, spec: RunSpec) -> None:
        """Create the folder and its spec.json, unless they exist."""
        self.path.mkdir(parents=True, exist_ok=True)
        if not self.spec.exists():
            write_json(self.spec, add_provenance(spec))

    @property
    def state(self) -> TrialState:
        """The state according to the files; "running" if any process holds a lock of the folder."""
        status = self._read_json("status.json").get("status")
        if self.pause_at is not None:
            if status == "done" or self._has_reached(self.pause_at, paused=status == "paused"):
                return "done"
        elif status == "done" and (self.failure or not self.needs_sample or (self.path / "sample.txt").exists()):
            return "done"
        if self.failure:
            return "failed"
        return "running" if self._is_locked("claim.lock") or self._is_locked(".lock") else "waiting"

    @property
    def data_record(self) -> dict[str, Any]:
        """The record of the trial's text: `data`, `held_out` and `overlap`, as far as they are known."""
        environment: object = self._read_json("environment.json")
        if not isinstance(environment, dict):
            return {}
        types = {"data": str, "held_out": dict, "overlap": dict}
        return {name: environment[name] for name, kind in types.items() if isinstance(environment.get(name), kind)}

    @property
    def failure(self) -> str | None:
        """The reason why the trial has failed for good, or None if it may be attempted again."""
        reason: str | None = self._read_json("attempts.json").get("given_up")
        return reason

    @property
    def attempts(self) -> list[Attempt]:
        """The attempts that have ended, in order."""
        return [Attempt(**attempt) for attempt in self._read_json("attempts.json").get("attempts", [])]

    def record_attempt(self, attempt: Attempt, *, is_last: bool) -> None:
        """Record how an attempt ended. If it `is_last`, the trial has failed."""
        self._write_attempts([*self.attempts, attempt], failure=attempt.reason if is_last else None)

    def clear_failure(self) -> None:
        """Allow more attempts at a failed trial."""
        self._write_attempts(self.attempts, failure=None)

    @contextmanager
    def acquire(self) -> Iterator[bool]:
        """Lock the trial, so that no other runner starts it. Yield False if another runner or run holds a lock."""
        lock = filelock.FileLock(self.path / "claim.lock", timeout=0)
        try:
            lock.acquire()
        except filelock.Timeout:
            yield False
            return
        try:
            yield not self._is_locked(".lock")  # a run outlives a runner that was killed
        finally:
            lock.release()

    def describe_exit(self, code: int) -> str:
        """Say why a process of this trial exited with `code`, without the folder's path; "" if the trial is done."""
        if code == 0 and self.state == "done":
            return ""
        if code < 0:
            name = signal.Signals(-code).name
            return f"killed by {name}" + (" (possibly out of memory)" if name == "SIGKILL" else "")
        if code == 137:
            return "exited with code 137 (usually out of memory)"
        message = self._read_json("status.json").get("reason", "")
        if code in _EXIT_MEANINGS:  # the meaning replaces the name of the error class before the colon
            message = message.partition(": ")[2]
        message = self._without_path(message or self._last_log_line())
        meaning = _EXIT_MEANINGS.get(code, f"exited with code {code}")
        return f"{meaning}: {message}" if message else meaning

    def _without_path(self, text: str) -> str:
        """Make paths in a text relative to this folder, so that equal trials in any two folders have equal texts."""
        forms = (self.path.resolve(), self.path.absolute(), self.path)
        folder = rf"(?:{'|'.join(re.escape(str(form)) for form in forms)})(/|: |(?![\w-]))"
        return re.sub(folder, lambda match: "" if match[1] else self.path.name, text).rstrip(".")

    def _has_reached(self, step: int, *, paused: bool) -> bool:
        """Return True if the metrics go up to `step` and resuming would not cut them off before it."""
        last = read_last_row(self.metrics).get("step", -1)
        is_saved = paused or checkpoint_path(self.path / "checkpoints", step).is_dir()
        return last > step or (last == step and is_saved)

    def _last_log_line(self) -> str:
        try:
            lines = self.log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        except FileNotFoundError:
            return ""
        return lines[-1] if lines else ""

    def _read_json(self, name: str) -> dict[str, Any]:
        """Read a JSON file of the folder; return {} if it does not exist yet."""
        try:
            value: dict[str, Any] = json.loads((self.path / name).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return value

    def _write_attempts(self, attempts: list[Attempt], failure: str | None) -> None:
        write_json(self.path / "attempts.json", {"attempts": [*map(asdict, attempts)], "given_up": failure})

    def _is_locked(self, name: str) -> bool:
        if not (self.path / name).exists():
            return False
        lock = filelock.FileLock(self.path / name, timeout=0)
        try:
            lock.acquire()
        except filelock.Timeout:
            return True
        lock.release()
        return False
