"""Trackers get every row of metrics.jsonl once, also if a run is killed and resumed, and cannot end a run."""

from __future__ import annotations

import csv
import json
import math
import os
import signal
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from runs import Killed, assert_same_run, before_step, die_at
from support import admit

import gptzoo
from gptzoo.errors import FolderError, InputError, Interrupted, SpecError, StopRun
from gptzoo.training.run.metrics_file import read_metrics

Rows = list[dict[str, float]]  # as a tracker has stored them, in its order


def read_csv(run: Path) -> Rows:
    with open(run / "metrics.csv", newline="") as file:
        return [{name: float(cell) for name, cell in row.items() if cell} for row in csv.DictReader(file)]


def read_tensorboard(run: Path) -> Rows:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(run / "tensorboard"), size_guidance={"scalars": 0})
    events.Reload()
    points = [(event.step, tag, event.value) for tag in events.Tags()["scalars"] for event in events.Scalars(tag)]
    return by_step(points)


def read_wandb(run: Path) -> Rows:
    """Return the rows of the offline folders in order, without steps that an earlier folder has."""
    from wandb.proto.wandb_internal_pb2 import Record

    kept: Rows = []
    for file in sorted((run / "wandb").glob("offline-run-*/*.wandb")):
        for data in records(file.read_bytes()):
            record = Record()
            record.ParseFromString(data)
            if record.WhichOneof("record_type") == "history":
                items = {(i.key or "/".join(i.nested_key)): json.loads(i.value_json) for i in record.history.item}
                row = {name: value for name, value in items.items() if not name.startswith("_")}
                if not kept or row["step"] > kept[-1]["step"]:
                    kept.append(row)
    return kept


def records(log: bytes) -> Iterator[bytes]:
    """Yield the records of a file in LevelDB's log format, after wandb's header of seven bytes."""
    at, record = 7, b""
    while at + 7 <= len(log):
        length, kind = struct.unpack("<HB", log[at + 4 : at + 7])  # after a checksum
        record += log[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # a full record, or the last part of one
            yield record
            record = b""
        if 32768 - at % 32768 < 7:  # no room for a header in this block
            at += 32768 - at % 32768


def read_mlflow(run: Path) -> Rows:
    from mlflow.tracking import MlflowClient

    client = MlflowClient(tracking_uri=f"sqlite:///{run.parent}/mlflow.db", registry_uri="")
    run_id = json.loads((run / "mlflow.json").read_text())["run_id"]
    names = client.get_run(run_id).data.metrics
    return by_step([(p.step, name, p.value) for name in names for p in client.get_metric_history(run_id, name)])


def by_step(points: list[tuple[int, str, float]]) -> Rows:
    """Group points into rows; a duplicate point makes a duplicate row."""
    by_key: dict[tuple[int, int], dict[str, float]] = {}
    for step, name, value in sorted(points):
        duplicate = 0
        while name in by_key.get((step, duplicate), {}):
            duplicate += 1
        by_key.setdefault((step, duplicate), {"step": step})[name] = value
    return [by_key[key] for key in sorted(by_key)]


TRACKERS: dict[str, tuple[Mapping[str, Any], Callable[[Path], Rows]]] = {
    "csv": ({}, read_csv),
    "tensorboard": ({}, read_tensorboard),
    "wandb": ({"mode": "offline"}, read_wandb),
    "mlflow": ({"uri": "sqlite:///{}/mlflow.db"}, read_mlflow),
}


def with_tracker(run_spec: dict[str, Any], name: str, tmp_path: Path) -> dict[str, Any]:
    options = {key: value.format(tmp_path) for key, value in TRACKERS[name][0].items()}
    return {**run_spec, "trackers": [{"type": name, **options}]}


def assert_has_all_rows(name: str, run: Path) -> None:
    """Compare the rows of a tracker with metrics.jsonl."""
    rows = [
        {key: value for key, value in row.items() if value is not None} for row in read_metrics(run / "metrics.jsonl")
    ]
    tracked = TRACKERS[name][1](run)
    assert [row["step"] for row in tracked] == [row["step"] for row in rows]
    for tracked_row, row in zip(tracked, rows, strict=True):
        assert set(tracked_row) == set(row)
        assert all(math.isclose(tracked_row[key], row[key], rel_tol=1e-6) for key in row), row["step"]


@pytest.mark.slow
@pytest.mark.parametrize("name", TRACKERS)
def test_a_tracker_has_each_row_once_after_a_stop_and_a_resume(
    run_spec: dict[str, Any], tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(trainer: Any) -> None:
        if trainer.train_state.step == 6:
            signal.raise_signal(signal.SIGTERM)

    spec, run = with_tracker(run_spec, name, tmp_path), tmp_path / "run"
    with monkeypatch.context() as patch:
        before_step(patch, stop)
        with pytest.raises(Interrupted):
            gptzoo.train(spec, run, quiet=True)
    gptzoo.train(spec, run, resume=True, quiet=True)
    assert_has_all_rows(name, run)


KILLER = """
import os, signal
import gptzoo

@gptzoo.hookimpl
def gptzoo_step(run, row):
    if run.resume_step < 0 and row["step"] == 7:  # the last checkpoint is of step 4
        os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.slow
@pytest.mark.parametrize("name", TRACKERS)
def test_a_tracker_has_each_row_once_after_a_sigkill_and_a_resume(
    run_spec: dict[str, Any], tmp_path: Path, name: str
) -> None:
    (tmp_path / "killer.py").write_text(KILLER)
    (tmp_path / "run.json").write_text(json.dumps(with_tracker(run_spec, name, tmp_path)))
    command = [sys.executable, "-m", "gptzoo", "train", "run.json", "--out", "run", "--resume", "--bare"]
    environment = {
        name: value for name, value in os.environ.items() if name != "WANDB_SERVICE"
    }  # the service of this process
    for status in (-signal.SIGKILL, 0):
        done = subprocess.run(
            [*command, "--plugin", "killer.py"], cwd=tmp_path, env=environment, capture_output=True, text=True
        )
        assert done.returncode == status, done.stderr
    assert_has_all_rows(name, tmp_path / "run")


@pytest.mark.parametrize(
    "name", ["csv", "tensorboard", "mlflow"]
)  # wandb stores rows in another process, which is not killed here
def test_a_tracker_has_no_gaps_or_duplicates_after_a_kill_and_a_resume(
    run_spec: dict[str, Any], tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec, run = with_tracker(run_spec, name, tmp_path), tmp_path / "run"
    with monkeypatch.context() as patch:
        die_at(patch, 7)  # the last checkpoint is of step 4
        with pytest.raises(Killed):
            gptzoo.train(spec, run, quiet=True)
    gptzoo.train(spec, run, resume=True, quiet=True)
    assert_has_all_rows(name, run)


@pytest.mark.parametrize("name", ["csv", "tensorboard"])
def test_a_tracker_that_is_added_on_resume_gets_earlier_steps_too(
    run_spec: dict[str, Any], tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    with monkeypatch.context() as patch:
        die_at(patch, 7)
        with pytest.raises(Killed):
            gptzoo.train(run_spec, run, quiet=True)
    gptzoo.train(with_tracker(run_spec, name, tmp_path), run, resume=True, quiet=True)
    assert_has_all_rows(name, run)


def test_an_incomplete_table_is_completed_on_resume(
    run_spec: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec, run = with_tracker(run_spec, "csv", tmp_path), tmp_path / "run"
    with monkeypatch.context() as patch:
        die_at(patch, 6)
        with pytest.raises(Killed):
            gptzoo.train(spec, run, quiet=True)
    table = (run / "metrics.csv").read_text()
    (run / "metrics.csv").write_text(table[: table.rindex("\n5,") + 2] + "1")  # the start of another row
    gptzoo.train(spec, run, resume=True, quiet=True)
    assert_has_all_rows("csv", run)


# ---------------------------------------------------------------------- a tracker of a plugin


class MemoryTracker(gptzoo.Tracker):
    """A tracker that stores rows in memory and fails on request."""

    name = "memory"
    rows: list[Any] = []
    ends: list[str] = []

    class Config(gptzoo.Tracker.Config):
        fails_at: str = ""
        """Method that raises: start, log, flush or finish."""

    def start(self, run: gptzoo.RunView) -> int:
        self.rows.clear()
        self.ends.clear()
        self.calls = 0
        self.fail("start")
        return -1

    def log(self, row: Mapping[str, Any]) -> None:
        self.rows.append(dict(row))
        if row["step"] == 3:
            self.fail("log")

    def flush(self) -> None:
        self.fail("flush")

    def finish(self, status: Any) -> None:
        self.fail("finish")
        self.ends.append(status)

    def fail(self, at: str) -> None:
        if self.config.fails_at == at:
            raise ConnectionError("nobody there")


@pytest.fixture
def memory_tracker(fresh_registry: Any) -> type[MemoryTracker]:
    admit(MemoryTracker)
    return MemoryTracker


def test_a_tracker_gets_all_rows_and_the_final_status(
    run_spec: dict[str, Any], tmp_path: Path, memory_tracker: type[MemoryTracker]
) -> None:
    gptzoo.train({**run_spec, "trackers": ["memory"]}, tmp_path / "run", quiet=True)
    assert memory_tracker.rows == read_metrics(tmp_path / "run" / "metrics.jsonl")
    assert memory_tracker.ends == ["done"]


@pytest.mark.parametrize("at", ["start", "log", "flush", "finish"])
def test_a_failing_tracker_is_reported_once_and_the_run_continues(
    run_spec: dict[str, Any],
    tmp_path: Path,
    memory_tracker: type[MemoryTracker],
    at: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    gptzoo.train(run_spec, tmp_path / "plain", quiet=True)
    spec = {**run_spec, "trackers": [{"type": "memory", "fails_at": at}, "csv"]}
    gptzoo.train(spec, tmp_path / "run")
    said = capsys.readouterr().err
    assert said.count("tracker 'memory' failed: ConnectionError: nobody there") == 1
    assert_has_all_rows("csv", tmp_path / "run")
    assert_same_run(tmp_path / "plain", tmp_path / "run")


@pytest.mark.parametrize("at", ["start", "log", "flush", "finish"])
def test_a_failing_required_tracker_ends_the_run(
    run_spec: dict[str, Any], tmp_path: Path, memory_tracker: type[MemoryTracker], at: str
) -> None:
    spec = {**run_spec, "trackers": [{"type": "memory", "fails_at": at, "required": True}]}
    with pytest.raises(StopRun, match=r"tracker 'memory' failed.*required"):
        gptzoo.train(spec, tmp_path / "run", quiet=True)
    assert json.loads((tmp_path / "run" / "status.json").read_text())["status"] == "failed"


def test_trackers_get_the_status_of_a_failed_run(
    run_spec: dict[str, Any], tmp_path: Path, memory_tracker: type[MemoryTracker], monkeypatch: pytest.MonkeyPatch
) -> None:
    from gptzoo.training.run import save_checkpoint as saving

    def raise_disk_full(*_: Any, **__: Any) -> Any:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(saving, "save_checkpoint", raise_disk_full)
    with pytest.raises(FolderError, match="No space left"):
        gptzoo.train({**run_spec, "trackers": ["memory"]}, tmp_path / "run", quiet=True)
    assert memory_tracker.ends == ["failed"]


# ---------------------------------------------------------------------- errors before a run


@pytest.mark.parametrize("name", ["tensorboard", "wandb", "mlflow"])
def test_a_missing_library_is_reported_first(
    run_spec: dict[str, Any], tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in [module for module in sys.modules if module.split(".")[0] == name]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(InputError, match=rf"tracker '{name}' needs .*{name}.*: pip install 'gptzoo\[{name}\]'"):
        gptzoo.train({**run_spec, "trackers": [name]}, tmp_path / "run", quiet=True)
    assert not (tmp_path / "run" / "metrics.jsonl").exists()


def test_a_tracker_cannot_be_listed_twice(run_spec: dict[str, Any]) -> None:
    with pytest.raises(SpecError, match=r"\$\.trackers\[1\]: 'csv' appears twice"):
        gptzoo.load_run_spec({**run_spec, "trackers": ["csv", {"type": "csv", "required": True}]})
