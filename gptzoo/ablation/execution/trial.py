"""A trial is a run in a folder of its own; what came of it is in files there, so that any process can tell."""

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
from gptzoo.spec.provenance import stamped
from gptzoo.spec.run import RunSpec
from gptzoo.training.run.metrics_file import last_whole_row
from gptzoo.utils.atomic import write_json

_MEANINGS = {2: "refused", 3: "diverged", 4: "interrupted"}  # of exit codes of gptzoo train


class Trial(Protocol):
    """What the runner needs to know of one."""

    @property
    def name(self) -> str:
        """Of its folder, relative to that of all trials."""

    @property
    def spec(self) -> RunSpec: ...


@dataclass(frozen=True)
class Attempt:
    """One process that worked on a trial, and how it ended."""

    code: int  # of the exit; negative for the signal that killed it
    reason: str  # "" if it ended well
    seconds: float


class TrialFolder:
    """The files of one trial: spec.json, those of its run, train.log and attempts.json.

    One that `wants_sample` is done when it has written its text too, or could not after all attempts; one that goes
    `until` a step is done when it has got there, whatever comes after.
    """

    def __init__(self, path: Path, *, wants_sample: bool = False, until: int | None = None):
        self.path = path
        self.wants_sample = wants_sample
        self.until = until
        self.spec = path / "spec.json"
        self.log = path / "train.log"
        self.metrics = path / "metrics.jsonl"

    def prepare(self, spec: RunSpec) -> None:
        """Make the folder, with the spec that its run shall have."""
        self.path.mkdir(parents=True, exist_ok=True)
        if not self.spec.exists():
            write_json(self.spec, stamped(spec))

    @property
    def state(self) -> TrialState:
        """As the files have it; `running` is whatever somebody holds."""
        status = self._read("status.json").get("status")
        if self.until is not None and (status == "done" or self._has_reached(self.until, paused=status == "paused")):
            return "done"
        trained = status == "done" and self.until is None
        if trained and (self.given_up or not self.wants_sample or (self.path / "sample.txt").exists()):
            return "done"
        if self.given_up:
            return "failed"
        return "running" if self._is_held("claim.lock") or self._is_held(".lock") else "waiting"

    @property
    def given_up(self) -> str | None:
        """Why it will not be tried again, if so."""
        reason: str | None = self._read("attempts.json").get("given_up")
        return reason

    @property
    def attempts(self) -> list[Attempt]:
        """Those that have ended, in their order."""
        return [Attempt(**attempt) for attempt in self._read("attempts.json").get("attempts", [])]

    def note(self, attempt: Attempt, *, given_up: bool) -> None:
        """Keep how an attempt ended, and whether that was the last."""
        attempts = [*map(asdict, self.attempts), asdict(attempt)]
        write_json(
            self.path / "attempts.json", {"attempts": attempts, "given_up": attempt.reason if given_up else None}
        )

    def forgive(self) -> None:
        """Let a trial that was given up be tried again."""
        attempts = [asdict(attempt) for attempt in self.attempts]
        write_json(self.path / "attempts.json", {"attempts": attempts, "given_up": None})

    @contextmanager
    def claim(self) -> Iterator[bool]:
        """Hold the trial, so that no other runner starts it; yields False if another one does, or its run goes on."""
        lock = filelock.FileLock(self.path / "claim.lock", timeout=0)
        try:
            lock.acquire()
        except filelock.Timeout:
            yield False
            return
        try:
            yield not self._is_held(".lock")  # a process whose runner has died trains on
        finally:
            lock.release()

    def why_ended(self, code: int) -> str:
        """In words, without its path, why a process of this trial ended with this code; "" if its run is done."""
        if code == 0 and self.state == "done":
            return ""
        if code < 0:
            name = signal.Signals(-code).name
            return f"killed by {name}" + (", perhaps for want of memory" if name == "SIGKILL" else "")
        if code == 137:
            return "ended with code 137, as a process does that ran out of memory"
        told = self._read("status.json").get("reason", "")
        if code in _MEANINGS:  # which says the class of the error, too
            told = told.partition(": ")[2]
        told = self._without_path(told or self._last_words())
        meaning = _MEANINGS.get(code, f"ended with code {code}")
        return f"{meaning}: {told}" if told else meaning

    def _without_path(self, text: str) -> str:
        """The text with paths relative to this folder: what came of a trial is the same in any ablation's folder."""
        forms = (self.path.resolve(), self.path.absolute(), self.path)
        here = rf"(?:{'|'.join(re.escape(str(form)) for form in forms)})(/|: |(?![\w-]))"
        return re.sub(here, lambda found: "" if found[1] else self.path.name, text).rstrip(".")

    def _has_reached(self, step: int, *, paused: bool) -> bool:
        """Whether its metrics reach to the step, and will not be cut off before it when the run goes on."""
        last = last_whole_row(self.metrics).get("step", -1)
        kept = paused or checkpoint_path(self.path / "checkpoints", step).is_dir()
        return last > step or (last == step and kept)

    def _last_words(self) -> str:
        try:
            lines = self.log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        except FileNotFoundError:
            return ""
        return lines[-1] if lines else ""

    def _read(self, name: str) -> dict[str, Any]:
        try:
            value: dict[str, Any] = json.loads((self.path / name).read_text(encoding="utf-8"))
        except (OSError, ValueError):  # not there yet
            return {}
        return value

    def _is_held(self, name: str) -> bool:
        if not (self.path / name).exists():
            return False
        lock = filelock.FileLock(self.path / name, timeout=0)
        try:
            lock.acquire()
        except filelock.Timeout:
            return True
        lock.release()
        return False
