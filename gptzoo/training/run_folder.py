"""A run is a folder: its spec, surroundings, metrics and checkpoints; one process at a time may write it."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import subprocess
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import filelock
import torch

from gptzoo import __version__, registry
from gptzoo.atomic import remove_incomplete, write_json, write_text
from gptzoo.errors import FolderError, VersionWarning
from gptzoo.spec.compare import differences
from gptzoo.spec.files import load_run_spec
from gptzoo.spec.provenance import stamped
from gptzoo.spec.run import RunSpec

# Where and how a run is watched may change when it goes on; what it computes may not.
_MAY_CHANGE = ("device", "checkpoint", "sample", "name")
_LENGTH = ("steps", "tokens", "epochs")


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
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            lock = filelock.FileLock(self.path / ".lock", timeout=0)
            with lock:
                self._refuse_if_used(resume)
                remove_incomplete(self.path)
                if self.checkpoints.is_dir():
                    remove_incomplete(self.checkpoints)
                yield
        except filelock.Timeout:
            raise FolderError(
                f"{self.path}: another process is training in it; wait for it, or choose another --out"
            ) from None
        except (NotADirectoryError, FileExistsError, PermissionError) as error:
            raise FolderError(f"{self.path}: cannot be written: {error.strerror}") from None

    def _refuse_if_used(self, resume: bool) -> None:
        if resume or not self.path.is_dir():
            return
        if any(entry.name != ".lock" for entry in self.path.iterdir()):
            raise FolderError(f"{self.path}: is used already; go on with --resume, or choose another --out")

    def record(
        self,
        spec: RunSpec,
        device: torch.device,
        fingerprint: str,
        report: Callable[[str], None],
        *,
        extend: bool = False,
    ) -> None:
        """Write run.json and environment.json, or compare with those that are there.

        Raises FolderError when the run that is there is another one or had other data; reports what else differs. With
        `extend` its length may be another.
        """

        def same_run(_: Mapping[str, Any]) -> None:
            with warnings.catch_warnings(record=True, category=VersionWarning) as told:
                warnings.simplefilter("always", VersionWarning)
                run = load_run_spec(self.path / "run.json")
            for warning in told:
                report(str(warning.message))
            self._refuse_other_run(run.resolved(), spec.resolved(), extend=extend)

        self._settle("run.json", stamped(spec), same_run)
        environment = describe_environment(device, fingerprint)

        def compare(before: Mapping[str, Any]) -> None:
            if before.get("data") != environment["data"]:
                raise FolderError(
                    f"{self.path}: the data is not that which the run began with; restore it, or start anew"
                )
            for key in sorted({*before, *environment} - {"git_commit", "host"}):
                if before.get(key) != environment.get(key):
                    report(f"resumed with another {key}: {before.get(key)} before, {environment.get(key)} now")

        self._settle("environment.json", environment, compare)

    def replace_spec(self, spec: RunSpec) -> None:
        """Make run.json that of a run of another length."""
        write_json(self.path / "run.json", stamped(spec))

    def _settle(self, name: str, value: Mapping[str, Any], compare: Callable[[Mapping[str, Any]], None]) -> None:
        file = self.path / name
        if not file.exists():
            write_json(file, value)
            return
        try:
            before = json.loads(file.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise FolderError(f"{file}: cannot be read: {error}") from None
        compare(before)

    def _refuse_other_run(self, before: Mapping[str, Any], now: Mapping[str, Any], *, extend: bool) -> None:
        may_change = (*_MAY_CHANGE, *_LENGTH) if extend else _MAY_CHANGE
        changed = [change for change in differences(before, now) if change.name.split(".")[1] not in may_change]
        if changed:
            told = "; ".join(f"{c.name} was {json.dumps(c.a)}, is {json.dumps(c.b)}" for c in changed)
            only_longer = all(change.name.split(".")[1] in _LENGTH for change in changed)
            advice = "; --extend makes it a run of another length" if only_longer else ""
            raise FolderError(f"{self.path}: holds another run, which cannot go on with this spec: {told}{advice}")

    # ------------------------------------------------------------------ metrics

    def cut_metrics(self, step: int) -> None:
        """Drop the rows after `step`, and a row that a kill left half written."""
        if not self.metrics.exists():
            return
        kept = []
        for line in self.metrics.read_text(encoding="utf-8").splitlines():
            try:
                row = json.loads(line)
            except ValueError:
                break
            if row["step"] > step:
                break
            kept.append(line + "\n")
        write_text(self.metrics, "".join(kept))

    def read_metrics(self) -> list[dict[str, Any]]:
        if not self.metrics.exists():
            return []
        return [json.loads(line) for line in self.metrics.read_text(encoding="utf-8").splitlines()]


def describe_environment(device: torch.device, fingerprint: str) -> dict[str, Any]:
    """What, besides the spec, decides the bits of a run."""
    device_name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine()
    return {
        "gptzoo": __version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "device": f"{device.type}: {device_name}",
        "threads": torch.get_num_threads(),
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
