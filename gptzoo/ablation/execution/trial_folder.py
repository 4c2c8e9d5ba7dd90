"""The folder of a trial. Its files record the state of the trial, so that any process can read it."""

from __future__ import annotations

import dataclasses
import itertools
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol, get_args

import filelock

from gptzoo.ablation.records.trial import TrialState
from gptzoo.ablation.wording import signal_name
from gptzoo.checkpoint.checkpoints import checkpoint_path
from gptzoo.checkpoint.records import read_record
from gptzoo.errors import Diverged, FolderError, InputError, Interrupted
from gptzoo.spec.provenance import add_provenance
from gptzoo.spec.run import RunSpec
from gptzoo.training.run.end_record import Check, check_end, check_progress
from gptzoo.training.run.metrics_file import read_last_row
from gptzoo.training.run.run_view import Status
from gptzoo.utils.atomic import write_json

_EXIT_MEANINGS = {InputError.exit_code: "refused", Diverged.exit_code: "diverged", Interrupted.exit_code: "interrupted"}


def _is_attempts(record: Mapping[str, Any]) -> bool:
    attempts, given_up = record.get("attempts"), record.get("given_up")
    fields = {field.name for field in dataclasses.fields(Attempt)}
    return (
        isinstance(attempts, list)
        and all(isinstance(attempt, dict) and attempt.keys() == fields for attempt in attempts)
        and isinstance(given_up, str | None)
    )


_FORMS: dict[str, Callable[[Mapping[str, Any]], bool]] = {
    "status.json": lambda record: record.get("status") in get_args(Status),
    "attempts.json": lambda record: _is_attempts(record),
    "spec.json": lambda record: "model" in record,
}


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
        if self._is_done:
            return "failed" if self.damage else "done"
        if self._given_up:
            return "failed"
        if self._is_running:
            return "running"
        return "failed" if self.damage else "waiting"

    @property
    def _is_done(self) -> bool:
        status = self._read_json("status.json").get("status")
        if self.pause_at is not None:
            return status == "done" or self._has_reached(self.pause_at, paused=status == "paused")
        has_sample = self._given_up or not self.needs_sample or (self.path / "sample.txt").exists()
        return status == "done" and bool(has_sample)

    @property
    def _is_running(self) -> bool:
        return self._is_locked("claim.lock") or self._is_locked(".lock")

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
        return self.damage or self._given_up

    @property
    def _given_up(self) -> str | None:
        reason = self._read_json("attempts.json").get("given_up")
        return reason if isinstance(reason, str) else None

    @property
    def damage(self) -> str | None:
        """The file of the trial that was damaged, and what is wrong with it; None if there is none.

        A trial with a damaged file counts as failed. Files of a run in progress are not checked.
        """
        for name, is_valid in _FORMS.items():
            try:
                if (self.path / name).exists() and not is_valid(read_record(self.path / name)):
                    return f"{name}: has another form than expected. It was damaged or changed"
            except FolderError as error:
                return str(error).replace(f"{self.path}/", "")
        check = self._check_records()
        return None if check is None else check.damage

    @property
    def verified(self) -> bool:
        """True if the metrics of the trial match a checksum; False if an older version wrote them without one."""
        check = self._check_records()
        return check is not None and check.damage is None and check.verified

    def _check_records(self) -> Check | None:
        """Check the metrics against the record of the run's end; None if the run is in progress."""
        if self._is_done:
            done = self._read_json("status.json").get("status") == "done"
            return check_end(self.path, None if done else self.pause_at)
        return None if self._is_running else check_progress(self.path)

    @property
    def attempts(self) -> list[Attempt]:
        """The attempts that have ended, in order."""
        record = self._read_json("attempts.json")
        return [Attempt(**attempt) for attempt in record.get("attempts", [])] if _is_attempts(record) else []

    def record_attempt(self, attempt: Attempt, *, is_last: bool) -> None:
        """Record how an attempt ended. If it `is_last`, the trial has failed."""
        self._write_attempts([*self.attempts, attempt], failure=attempt.reason if is_last else None)

    def clear_failure(self) -> None:
        """Allow more attempts at a failed trial. The files of a damaged one are moved into a folder `damaged-<n>`."""
        if self.damage is None:
            self._write_attempts(self.attempts, failure=None)
            return
        with self.acquire() as acquired:
            if acquired:
                self._set_aside()

    def _set_aside(self) -> None:
        number = next(n for n in itertools.count(1) if not (self.path / f"damaged-{n}").exists())
        target = self.path / f"damaged-{number}"
        target.mkdir()
        for file in sorted(self.path.iterdir()):
            if file.suffix != ".lock" and file.name != ".lock" and not file.name.startswith("damaged-"):
                file.rename(target / file.name)

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
            name = signal_name(-code)
            return f"killed by {name}" + (" (possibly out of memory)" if name == "SIGKILL" else "")
        if code == 137:
            return "exited with code 137 (usually out of memory)"
        message = str(self._read_json("status.json").get("reason", ""))
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
            return read_record(self.path / name)
        except FolderError:  # `damage` reports a damaged file
            return {}

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
