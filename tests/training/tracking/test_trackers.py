"""Trackers get what metrics.jsonl has, each row once, in runs that are killed and resumed too; none can end a run."""

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
from runs import Killed, assert_same_run, before_update, die_at
from support import admit

import gptzoo
from gptzoo.errors import FolderError, InputError, Interrupted, SpecError, StopRun
from gptzoo.training.run.metrics_file import read

Rows = list[dict[str, float]]  # as a tracker has kept them, in its order


def of_csv(run: Path) -> Rows:
    with open(run / "metrics.csv", newline="") as file:
        return [{name: float(cell) for name, cell in row.items() if cell} for row in csv.DictReader(file)]


def of_tensorboard(run: Path) -> Rows:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(run / "tensorboard"), size_guidance={"scalars": 0})
    events.Reload()
    points = [(event.step, tag, event.value) for tag in events.Tags()["scalars"] for event in events.Scalars(tag)]
    return by_step(points)


def of_wandb(run: Path) -> Rows:
    """The rows of the offline folders in their order, but for steps that an earlier one has already."""
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
    """What is in a file of LevelDB's log format, after wandb's own seven bytes."""
    at, record = 7, b""
    while at + 7 <= len(log):
        length, sort = struct.unpack("<HB", log[at + 4 : at + 7])  # after a checksum
        record += log[at + 7 : at + 7 + length]
        at += 7 + length
        if sort in (1, 4):  # whole, or the last part
            yield record
            record = b""
        if 32768 - at % 32768 < 7:  # too little of the block for a header
            at += 32768 - at % 32768


def of_mlflow(run: Path) -> Rows:
    from mlflow.tracking import MlflowClient

    client = MlflowClient(tracking_uri=f"sqlite:///{run.parent}/mlflow.db", registry_uri="")
    run_id = json.loads((run / "mlflow.json").read_text())["run_id"]
    names = client.get_run(run_id).data.metrics
    return by_step([(p.step, name, p.value) for name in names for p in client.get_metric_history(run_id, name)])


def by_step(points: list[tuple[int, str, float]]) -> Rows:
    """Rows from single points; a point that is there twice makes a row that is there twice."""
    found: dict[tuple[int, int], dict[str, float]] = {}
    for step, name, value in sorted(points):
        again = 0
        while name in found.get((step, again), {}):
            again += 1
        found.setdefault((step, again), {"step": step})[name] = value
    return [found[key] for key in sorted(found)]


TRACKERS: dict[str, tuple[Mapping[str, Any], Callable[[Path], Rows]]] = {
    "csv": ({}, of_csv),
    "tensorboard": ({}, of_tensorboard),
    "wandb": ({"mode": "offline"}, of_wandb),
    "mlflow": ({"uri": "sqlite:///{}/mlflow.db"}, of_mlflow),
}


def tracked(run_spec: dict[str, Any], name: str, tmp_path: Path) -> dict[str, Any]:
    options = {key: value.format(tmp_path) for key, value in TRACKERS[name][0].items()}
    return {**run_spec, "trackers": [{"type": name, **options}]}


def assert_tracked(name: str, run: Path) -> None:
    """What the tracker has kept is what metrics.jsonl has."""
    rows = [{key: value for key, value in row.items() if value is not None} for row in read(run / "metrics.jsonl")]
    kept = TRACKERS[name][1](run)
    assert [row["step"] for row in kept] == [row["step"] for row in rows]
    for one, other in zip(kept, rows, strict=True):
        assert set(one) == set(other)
        assert all(math.isclose(one[key], other[key], rel_tol=1e-6) for key in other), one["step"]


@pytest.mark.parametrize("name", TRACKERS)
def test_a_run_that_is_stopped_and_resumed_is_one_run_to_its_tracker(
    run_spec: dict[str, Any], tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(trainer: Any) -> None:
        if trainer.standing.step == 6:
            signal.raise_signal(signal.SIGTERM)

    spec, run = tracked(run_spec, name, tmp_path), tmp_path / "run"
    with monkeypatch.context() as patch:
        before_update(patch, stop)
        with pytest.raises(Interrupted):
            gptzoo.train(spec, run, quiet=True)
    gptzoo.train(spec, run, resume=True, quiet=True)
    assert_tracked(name, run)


KILLER = """
import os, signal
import gptzoo

@gptzoo.hookimpl
def gptzoo_step(run, row):
    if run.kept < 0 and row["step"] == 7:  # the last checkpoint is of step 4
        os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.slow
@pytest.mark.parametrize("name", TRACKERS)
def test_a_run_that_is_killed_by_the_system_and_resumed_is_one_run_to_its_tracker(
    run_spec: dict[str, Any], tmp_path: Path, name: str
) -> None:
    (tmp_path / "killer.py").write_text(KILLER)
    (tmp_path / "run.json").write_text(json.dumps(tracked(run_spec, name, tmp_path)))
    command = [sys.executable, "-m", "gptzoo", "train", "run.json", "--out", "run", "--resume", "--bare"]
    environment = {
        name: value for name, value in os.environ.items() if name != "WANDB_SERVICE"
    }  # its own, which dies too
    for status in (-signal.SIGKILL, 0):
        done = subprocess.run(
            [*command, "--plugin", "killer.py"], cwd=tmp_path, env=environment, capture_output=True, text=True
        )
        assert done.returncode == status, done.stderr
    assert_tracked(name, tmp_path / "run")


@pytest.mark.parametrize(
    "name", ["csv", "tensorboard", "mlflow"]
)  # wandb keeps rows in a process that does not die here
def test_a_run_that_is_killed_and_resumed_is_one_run_without_gaps_or_repetitions(
    run_spec: dict[str, Any], tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec, run = tracked(run_spec, name, tmp_path), tmp_path / "run"
    with monkeypatch.context() as patch:
        die_at(patch, 7)  # the last checkpoint is of step 4
        with pytest.raises(Killed):
            gptzoo.train(spec, run, quiet=True)
    gptzoo.train(spec, run, resume=True, quiet=True)
    assert_tracked(name, run)


@pytest.mark.parametrize("name", ["csv", "tensorboard"])
def test_a_tracker_that_comes_later_gets_the_steps_before_it_too(
    run_spec: dict[str, Any], tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    with monkeypatch.context() as patch:
        die_at(patch, 7)
        with pytest.raises(Killed):
            gptzoo.train(run_spec, run, quiet=True)
    gptzoo.train(tracked(run_spec, name, tmp_path), run, resume=True, quiet=True)
    assert_tracked(name, run)


def test_a_table_that_a_kill_left_half_written_is_made_whole(
    run_spec: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec, run = tracked(run_spec, "csv", tmp_path), tmp_path / "run"
    with monkeypatch.context() as patch:
        die_at(patch, 6)
        with pytest.raises(Killed):
            gptzoo.train(spec, run, quiet=True)
    table = (run / "metrics.csv").read_text()
    (run / "metrics.csv").write_text(table[: table.rindex("\n5,") + 2] + "1")  # of a step 51
    gptzoo.train(spec, run, resume=True, quiet=True)
    assert_tracked("csv", run)


# ---------------------------------------------------------------------- a tracker of somebody else


class Shelf(gptzoo.Tracker):
    """Keeps rows in memory."""

    name = "shelf"
    rows: list[Any] = []
    ends: list[str] = []

    class Config(gptzoo.Tracker.Config):
        fails_at: str = ""
        """start, log, flush or finish."""

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
def shelf(fresh_registry: Any) -> type[Shelf]:
    admit(Shelf)
    return Shelf


def test_a_tracker_gets_the_rows_of_the_record_and_the_end(
    run_spec: dict[str, Any], tmp_path: Path, shelf: type[Shelf]
) -> None:
    gptzoo.train({**run_spec, "trackers": ["shelf"]}, tmp_path / "run", quiet=True)
    assert shelf.rows == read(tmp_path / "run" / "metrics.jsonl")
    assert shelf.ends == ["done"]


@pytest.mark.parametrize("at", ["start", "log", "flush", "finish"])
def test_a_tracker_that_fails_is_told_of_once_and_the_run_goes_on(
    run_spec: dict[str, Any], tmp_path: Path, shelf: type[Shelf], at: str, capsys: pytest.CaptureFixture[str]
) -> None:
    gptzoo.train(run_spec, tmp_path / "plain", quiet=True)
    spec = {**run_spec, "trackers": [{"type": "shelf", "fails_at": at}, "csv"]}
    gptzoo.train(spec, tmp_path / "run")
    said = capsys.readouterr().err
    assert said.count("tracker 'shelf' failed: ConnectionError: nobody there") == 1
    assert_tracked("csv", tmp_path / "run")
    assert_same_run(tmp_path / "plain", tmp_path / "run")


@pytest.mark.parametrize("at", ["start", "log", "flush", "finish"])
def test_a_tracker_that_is_required_ends_the_run_when_it_fails(
    run_spec: dict[str, Any], tmp_path: Path, shelf: type[Shelf], at: str
) -> None:
    spec = {**run_spec, "trackers": [{"type": "shelf", "fails_at": at, "required": True}]}
    with pytest.raises(StopRun, match=r"tracker 'shelf' failed.*required"):
        gptzoo.train(spec, tmp_path / "run", quiet=True)
    assert json.loads((tmp_path / "run" / "status.json").read_text())["status"] == "failed"


def test_a_run_that_fails_ends_so_for_its_trackers(
    run_spec: dict[str, Any], tmp_path: Path, shelf: type[Shelf], monkeypatch: pytest.MonkeyPatch
) -> None:
    from gptzoo.training.run import checkpoint as saving

    def full(*_: Any, **__: Any) -> Any:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(saving, "save_checkpoint", full)
    with pytest.raises(FolderError, match="No space left"):
        gptzoo.train({**run_spec, "trackers": ["shelf"]}, tmp_path / "run", quiet=True)
    assert shelf.ends == ["failed"]


# ---------------------------------------------------------------------- what is told before a run begins


@pytest.mark.parametrize("name", ["tensorboard", "wandb", "mlflow"])
def test_a_missing_library_is_told_before_anything_else(
    run_spec: dict[str, Any], tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in [module for module in sys.modules if module.split(".")[0] == name]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(InputError, match=rf"tracker '{name}' needs .*{name}.*: pip install 'gptzoo\[{name}\]'"):
        gptzoo.train({**run_spec, "trackers": [name]}, tmp_path / "run", quiet=True)
    assert not (tmp_path / "run" / "metrics.jsonl").exists()


def test_a_tracker_can_be_named_once(run_spec: dict[str, Any]) -> None:
    with pytest.raises(SpecError, match=r"\$\.trackers\[1\]: 'csv' is there already"):
        gptzoo.load_run_spec({**run_spec, "trackers": ["csv", {"type": "csv", "required": True}]})
