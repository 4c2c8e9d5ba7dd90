"""The folder of a run: its spec, environment, status, metrics and checkpoints. One process at a time may write it."""

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
from gptzoo.checkpoint.plugin_files import keep_plugin_files, loaded_plugin_files
from gptzoo.checkpoint.records import read_record
from gptzoo.errors import FolderError, VersionWarning
from gptzoo.spec.files import load_run_spec
from gptzoo.spec.provenance import add_provenance, keep_recorded_options
from gptzoo.spec.run import RunSpec
from gptzoo.training.run.disk_errors import report_disk_errors
from gptzoo.training.run.run_view import Status, status_of
from gptzoo.utils.atomic import remove_incomplete, write_json
from gptzoo.utils.json_diff import differences

# Fields that may always change when a run is resumed, because they do not change its results.
_RESUMABLE_FIELDS = ("device", "parallel", "checkpoint", "sample", "name", "trackers", "watch")
_LENGTH_FIELDS = ("steps", "tokens", "epochs")
_PLUGIN_FILES = "plugin_files"
# Differences in these keys of environment.json are not reported.
_UNREPORTED_KEYS = {"git_commit", "host", "micro_batch_size", "held_out", "overlap", _PLUGIN_FILES}

HELD_OUT_CHANGED = "the held-out text has changed, so earlier validation losses do not compare with later ones"

DataRecord = Mapping[str, Any]
"""The record of a run's text in environment.json.

`data` is the digest of tokens and tokenizer, `held_out` has digests and counts of the held-out text, and `overlap` its
overlap with the training text."""

AllowedChange = Literal["nothing", "length", "anything"]
"""Which fields of a spec may differ from the run that is resumed."""


class RunFolder:
    """The folder of one run. Nothing in it changes before `lock` holds its lock."""

    def __init__(self, path: str | Path):
        self.path = Path(path)
        self.checkpoints = self.path / "checkpoints"
        self.metrics = self.path / "metrics.jsonl"

    @property
    def keeps_duplicates(self) -> bool:
        """True for a run of an older version, which did not remove held-out documents from the training text."""
        return (self.path / "environment.json").exists() and "held_out" not in self.read_environment()

    @contextlib.contextmanager
    def lock(self, *, resume: bool) -> Iterator[None]:
        """Create and lock the folder, and remove incomplete files of killed processes.

        Raises FolderError if the folder is in use by another process, or not empty and `resume` is False.
        """
        self._check_unused(resume)
        lock = filelock.FileLock(self.path / ".lock", timeout=0)
        with report_disk_errors(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
            self._acquire(lock)
        try:
            self._check_unused(resume)
            with report_disk_errors(self.path):
                remove_incomplete(self.path)
                if self.checkpoints.is_dir():
                    remove_incomplete(self.checkpoints)
            yield
        finally:
            lock.release()

    def _acquire(self, lock: filelock.BaseFileLock) -> None:
        try:
            lock.acquire()
        except filelock.Timeout:  # a subclass of OSError, but not a disk error
            raise FolderError(
                f"{self.path}: another process is training in this folder. Wait for it, or choose another --out"
            ) from None

    def _check_unused(self, resume: bool) -> None:
        if self.path.exists() and not self.path.is_dir():
            raise FolderError(f"{self.path}: is a file. Choose another --out")
        if resume or not self.path.is_dir():
            return
        if any(entry.name != ".lock" for entry in self.path.iterdir()):
            if not (self.path / "run.json").exists():
                raise FolderError(f"{self.path}: has files that are not a run. Choose another --out")
            raise FolderError(f"{self.path}: already has a run. Continue it with --resume, or choose another --out")

    def write_or_check_spec(
        self,
        spec: RunSpec,
        device: torch.device,
        data: DataRecord,
        report: Callable[[str], None],
        *,
        allowed_change: AllowedChange = "nothing",
    ) -> list[str]:
        """Write run.json and environment.json, or compare them with the files of the run that is resumed.

        Returns the allowed changes. Calls `report` for differences of the environment. Raises FolderError for changes
        of the spec or the training data that are not allowed.
        """
        changes: list[str] = []

        def check_spec(_: Mapping[str, object]) -> None:
            with warnings.catch_warnings(record=True, category=VersionWarning) as caught:
                warnings.simplefilter("always", VersionWarning)
                previous = load_run_spec(self.path / "run.json")
            for warning in caught:
                report(str(warning.message))
            changes.extend(self._allowed_changes(previous.resolved(), spec.resolved(), allowed_change))

        self._write_or_check("run.json", add_provenance(spec), check_spec)
        environment = describe_environment(device, data)

        def check_environment(previous: Mapping[str, object]) -> None:
            if not isinstance(previous.get("data"), str):
                raise FolderError(f"{self.path / 'environment.json'}: $.data: is missing. It was damaged or changed")
            if previous["data"] != environment["data"]:
                if allowed_change != "anything":
                    raise FolderError(
                        f"{self.path}: the training data has changed since this run started. Restore the data, start a "
                        "new run, or continue with --override"
                    )
                changes.append("the training data has changed")
                if previous.get("held_out") != environment["held_out"]:
                    changes.append(HELD_OUT_CHANGED)
            for key in sorted({*previous, *environment} - _UNREPORTED_KEYS):
                before, now = previous.get(key), environment.get(key)
                if before != now:
                    report(f"{key} has changed since the run started: {before} before, {now} now")
            for name in _changed_plugin_files(previous, environment):
                report(f"plugin file {name} has changed since the run started. Both versions are kept in plugins/")

        self._write_or_check("environment.json", environment, check_environment)
        with report_disk_errors(self.path / "plugins"):
            keep_plugin_files(self.path)
        return changes

    def keep_recorded_options(self, spec: RunSpec) -> tuple[RunSpec, list[str]]:
        """Return the spec with the options of the version that started the run, and a note for each of them.

        These are the options that are newer than the run. Raises FolderError if run.json is damaged.
        """
        file = self.path / "run.json"
        if not file.exists():
            return spec, []
        data, notes = keep_recorded_options(spec, read_record(file), str(file))
        return (load_run_spec(data) if notes else spec), notes

    def record_changes(self, spec: RunSpec, data: DataRecord, step: int, changes: Sequence[str]) -> None:
        """Append the changes to changes.jsonl, and replace run.json and the data in environment.json."""
        row = json.dumps({"step": step, "changes": list(changes)}, ensure_ascii=False)
        path = self.path / "changes.jsonl"
        with report_disk_errors(path), open(path, "a", encoding="utf-8") as file:
            file.write(row + "\n")
        # A run of an older version keeps its duplicates, which the missing record of the held-out text stands for.
        self.update_environment(**({"data": data["data"]} if self.keeps_duplicates else data))
        self._write("run.json", add_provenance(spec))

    def write_initial_weights(self, record: Mapping[str, Any]) -> None:
        """Write initial_weights.json: which tensors came from where, which are new, and which were left over."""
        self._write("initial_weights.json", record)

    def read_environment(self) -> dict[str, Any]:
        """Return the contents of environment.json."""
        return read_record(self.path / "environment.json")

    def update_environment(self, **changes: object) -> None:
        """Set some keys of environment.json."""
        self._write("environment.json", {**self.read_environment(), **changes})

    def read_warnings(self, topic: str | None = None) -> list[str]:
        """Return the warnings of warnings.json, or those about a topic; [] if there is none."""
        by_topic = self._read_warnings_by_topic()
        if topic is not None:
            return by_topic.get(topic, [])
        return [message for messages in by_topic.values() for message in messages]

    def write_warnings(self, topic: str, warnings: Sequence[str]) -> None:
        """Replace the warnings about a topic in warnings.json. The file exists only if there is a warning."""
        before = self._read_warnings_by_topic()
        by_topic = {name: messages for name, messages in before.items() if name != topic}
        by_topic |= {topic: list(warnings)} if warnings else {}
        if by_topic == before:
            return
        if by_topic:
            self._write("warnings.json", by_topic)
        else:
            with report_disk_errors(self.path / "warnings.json"):
                (self.path / "warnings.json").unlink()

    def _read_warnings_by_topic(self) -> dict[str, list[str]]:
        try:
            value = json.loads((self.path / "warnings.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        messages_by_topic = value.items() if isinstance(value, dict) else ()
        return {
            topic: [message for message in messages if isinstance(message, str)]
            for topic, messages in messages_by_topic
            if isinstance(messages, list)
        }

    @contextlib.contextmanager
    def track_status(self, final_status: Callable[[], Status] = lambda: "done") -> Iterator[None]:
        """Keep status.json up to date: `running` in the block, then `final_status()`, or the status of an error."""
        self._write_status("running")
        try:
            yield
        except BaseException as error:
            with contextlib.suppress(FolderError):  # on a full disk, the error that ended the run matters more
                self._write_status(status_of(error), f"{type(error).__name__}: {error}")
            raise
        self._write_status(final_status())

    def _write_status(self, status: Status, reason: str | None = None) -> None:
        self._write("status.json", {"status": status, **({"reason": reason} if reason else {})})

    def _write(self, name: str, value: object) -> None:
        with report_disk_errors(self.path / name):
            write_json(self.path / name, value)

    def _write_or_check(
        self, name: str, value: Mapping[str, object], check: Callable[[Mapping[str, object]], None]
    ) -> None:
        file = self.path / name
        if not file.exists():
            self._write(name, value)
            return
        check(read_record(file))

    def _allowed_changes(
        self, previous: Mapping[str, object], current: Mapping[str, object], allowed_change: AllowedChange
    ) -> list[str]:
        """Describe the changes between two specs. Raises FolderError for changes that are not allowed."""
        changes = [c for c in differences(previous, current) if c.name.split(".")[1] not in _RESUMABLE_FIELDS]
        descriptions = [f"{c.name} was {json.dumps(c.a)}, is {json.dumps(c.b)}" for c in changes]
        only_length = all(change.name.split(".")[1] in _LENGTH_FIELDS for change in changes)
        if not changes or allowed_change == "anything" or (allowed_change == "length" and only_length):
            return descriptions
        advice = "Use --extend to change its length" if only_length else "Use --override to continue with the new spec"
        raise FolderError(f"{self.path}: its run has another spec: {'; '.join(descriptions)}. {advice}")


def _changed_plugin_files(previous: Mapping[str, Any], current: Mapping[str, Any]) -> list[str]:
    """Return the names of the plugin files whose source differs. A run of an older version recorded none."""
    before, now = previous.get(_PLUGIN_FILES), current.get(_PLUGIN_FILES)
    if not isinstance(before, dict) or not isinstance(now, dict):
        return []
    return sorted(name for name in before.keys() & now.keys() if before[name] != now[name])


def describe_environment(device: torch.device, data: DataRecord) -> dict[str, Any]:
    """Return everything besides the spec that determines the bits of a run."""
    device_name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine()
    plugin_files = {file.name: file.sha256 for file in loaded_plugin_files()}
    return {
        "gptzoo": __version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "device": f"{device.type}: {device_name}",
        "threads": torch.get_num_threads(),
        "processes": torch.distributed.get_world_size() if torch.distributed.is_initialized() else 1,
        "plugins": {origin.plugin: str(origin) for origin in registry.current().plugins},
        **({_PLUGIN_FILES: plugin_files} if plugin_files else {}),
        **data,
        "git_commit": _git_commit(),
        "host": platform.node(),
    }


def _git_commit() -> str | None:
    """Return the commit of the working directory, marked if it has changes, or None outside a git repository."""
    try:
        command = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
        result = subprocess.run(
            command, capture_output=True, text=True, timeout=10, check=True, env={**os.environ, "LC_ALL": "C"}
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return result.stdout.strip()
