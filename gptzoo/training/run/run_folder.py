"""A run is a folder: its spec, surroundings, metrics and checkpoints; one process at a time may write it."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import subprocess
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import filelock
import torch

from gptzoo import __version__, registry
from gptzoo.errors import FolderError, VersionWarning
from gptzoo.spec.files import load_run_spec
from gptzoo.spec.json_diff import differences
from gptzoo.spec.provenance import stamped
from gptzoo.spec.run import RunSpec
from gptzoo.training.run.disk import writing
from gptzoo.training.run.run_view import Status, status_of
from gptzoo.utils.atomic import remove_incomplete, write_json

# Where and how a run is watched may change when it goes on; what it computes may not.
_MAY_CHANGE = ("device", "parallel", "checkpoint", "sample", "name", "trackers", "watch")
_LENGTH = ("steps", "tokens", "epochs")

Change = Literal["nothing", "length", "anything"]
"""What of a run that is resumed may be otherwise than it was."""


class RunFolder:
    """The folder of one run. Nothing in it is touched before `open` holds its lock."""

    def __init__(self, path: str | Path):
        self.path = Path(path)
        self.checkpoints = self.path / "checkpoints"
        self.metrics = self.path / "metrics.jsonl"

    @contextlib.contextmanager
    def open(self, *, resume: bool) -> Iterator[None]:
        """Hold the folder. Raises FolderError if it is used and not to be resumed, or if another process holds it."""
        self._refuse_if_used(resume)
        lock = filelock.FileLock(self.path / ".lock", timeout=0)
        with writing(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
            self._acquire(lock)
        try:
            self._refuse_if_used(resume)
            with writing(self.path):
                remove_incomplete(self.path)
                if self.checkpoints.is_dir():
                    remove_incomplete(self.checkpoints)
            yield
        finally:
            lock.release()

    def _acquire(self, lock: filelock.BaseFileLock) -> None:
        try:
            lock.acquire()
        except filelock.Timeout:  # it is an OSError, but no disk is to blame
            raise FolderError(
                f"{self.path}: another process is training in it; wait for it, or choose another --out"
            ) from None

    def _refuse_if_used(self, resume: bool) -> None:
        if self.path.exists() and not self.path.is_dir():
            raise FolderError(f"{self.path}: is a file; choose another --out")
        if resume or not self.path.is_dir():
            return
        if any(entry.name != ".lock" for entry in self.path.iterdir()):
            if not (self.path / "run.json").exists():
                raise FolderError(f"{self.path}: holds files, and no run; choose another --out")
            raise FolderError(f"{self.path}: is used already; go on with --resume, or choose another --out")

    def record(
        self,
        spec: RunSpec,
        device: torch.device,
        fingerprint: str,
        report: Callable[[str], None],
        *,
        may_change: Change = "nothing",
    ) -> list[str]:
        """Write run.json and environment.json, or compare with those that are there.

        Raises FolderError when the run that is there is another one or had other data than may be; reports what else
        differs. Returns what has changed and may.
        """
        changed: list[str] = []

        def same_run(_: Mapping[str, Any]) -> None:
            with warnings.catch_warnings(record=True, category=VersionWarning) as told:
                warnings.simplefilter("always", VersionWarning)
                run = load_run_spec(self.path / "run.json")
            for warning in told:
                report(str(warning.message))
            changed.extend(self._changes(run.resolved(), spec.resolved(), may_change))

        self._settle("run.json", stamped(spec), same_run)
        environment = describe_environment(device, fingerprint)

        def compare(before: Mapping[str, Any]) -> None:
            if before.get("data") != environment["data"]:
                if may_change != "anything":
                    raise FolderError(
                        f"{self.path}: the data is not that which the run began with; restore it, start anew, or go on "
                        "all the same with --override"
                    )
                changed.append("the data is another")
            for key in sorted({*before, *environment} - {"git_commit", "host", "micro_batch_size"}):
                if before.get(key) != environment.get(key):
                    report(f"resumed with another {key}: {before.get(key)} before, {environment.get(key)} now")

        self._settle("environment.json", environment, compare)
        return changed

    def note_changes(self, spec: RunSpec, fingerprint: str, step: int, changed: Sequence[str]) -> None:
        """Make run.json and environment.json those of the changed run, and keep for good what changed at which step."""
        row = json.dumps({"step": step, "changes": list(changed)}, ensure_ascii=False)
        with writing(self.path / "changes.jsonl"), open(self.path / "changes.jsonl", "a", encoding="utf-8") as file:
            file.write(row + "\n")
        self.note_environment(data=fingerprint)
        self._write("run.json", stamped(spec))

    def environment(self) -> dict[str, Any]:
        """What environment.json says, once `record` has written it or found it."""
        found: dict[str, Any] = json.loads((self.path / "environment.json").read_text(encoding="utf-8"))
        return found

    def note_environment(self, **changes: Any) -> None:
        """Put into environment.json what has changed, or was decided since."""
        self._write("environment.json", {**self.environment(), **changes})

    @contextlib.contextmanager
    def status(self, ending: Callable[[], Status] = lambda: "done") -> Iterator[None]:
        """Keep in status.json how a run is doing in the block, and how it ended: by an error, or as `ending` says."""
        self._write_status("running")
        try:
            yield
        except BaseException as error:
            with contextlib.suppress(FolderError):  # the disk may be full; why the run failed is to be told, not that
                self._write_status(status_of(error), f"{type(error).__name__}: {error}")
            raise
        self._write_status(ending())

    def _write_status(self, status: Status, reason: str | None = None) -> None:
        self._write("status.json", {"status": status, **({"reason": reason} if reason else {})})

    def _write(self, name: str, value: Any) -> None:
        with writing(self.path / name):
            write_json(self.path / name, value)

    def _settle(self, name: str, value: Mapping[str, Any], compare: Callable[[Mapping[str, Any]], None]) -> None:
        file = self.path / name
        if not file.exists():
            self._write(name, value)
            return
        try:
            before = json.loads(file.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise FolderError(f"{file}: cannot be read: {error}") from None
        compare(before)

    def _changes(self, before: Mapping[str, Any], now: Mapping[str, Any], may_change: Change) -> list[str]:
        """In words, what differs between two specs and may; raises FolderError for what may not."""
        changes = [c for c in differences(before, now) if c.name.split(".")[1] not in _MAY_CHANGE]
        told = [f"{c.name} was {json.dumps(c.a)}, is {json.dumps(c.b)}" for c in changes]
        only_longer = all(change.name.split(".")[1] in _LENGTH for change in changes)
        if not changes or may_change == "anything" or (may_change == "length" and only_longer):
            return told
        advice = "--extend makes it a run of another length" if only_longer else "--override goes on all the same"
        raise FolderError(
            f"{self.path}: holds another run, which cannot go on with this spec: {'; '.join(told)}; {advice}"
        )


def describe_environment(device: torch.device, fingerprint: str) -> dict[str, Any]:
    """What, besides the spec, decides the bits of a run."""
    device_name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine()
    return {
        "gptzoo": __version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "device": f"{device.type}: {device_name}",
        "threads": torch.get_num_threads(),
        "processes": torch.distributed.get_world_size() if torch.distributed.is_initialized() else 1,
        "plugins": {origin.plugin: str(origin) for origin in registry.current().plugins},
        "data": fingerprint,
        "git_commit": _git_commit(),
        "host": platform.node(),
    }


def _git_commit() -> str | None:
    """The commit of the folder that the run was started in, marked if there were changes; None outside of git."""
    try:
        command = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=10, check=True, env={**os.environ, "LC_ALL": "C"}
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
