"""Full disks, damaged files and signals are reported, and nothing that was saved is lost."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from forks import Forks
from runs import assert_same_run, before_step, overflow_at

import gptzoo
from gptzoo.checkpoint.checkpoints import list_checkpoints, newest_valid_checkpoint
from gptzoo.cli import main
from gptzoo.errors import DataError

forking = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs processes that fork")


@pytest.fixture(scope="module")
def forks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Forks]:
    with Forks(tmp_path_factory.mktemp("forks") / "log") as started:
        yield started


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits the size of files as Linux does")
def test_a_full_disk_for_a_checkpoint_leaves_earlier_ones_intact_and_the_run_resumes(
    run_spec: dict[str, Any], tmp_path: Path, forks: Forks
) -> None:
    gptzoo.train(run_spec, tmp_path / "whole", quiet=True)
    run = tmp_path / "run"
    largest = max(file.stat().st_size for file in (tmp_path / "whole" / "checkpoints").rglob("*.safetensors"))
    assert forks.call("train_with_room_for", largest - 1, run_spec, str(run)) == 2
    stderr = forks.log.read_text()
    assert "the checkpoint of step 4 cannot be written" in stderr
    assert "Free some space and continue with --resume" in stderr
    assert "Traceback" not in stderr
    assert not list_checkpoints(run / "checkpoints")
    assert json.loads((run / "status.json").read_text())["status"] == "failed"
    gptzoo.train(run_spec, run, resume=True, quiet=True)
    assert_same_run(tmp_path / "whole", run)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits the size of files as Linux does")
def test_a_full_disk_for_metrics_ends_the_run_and_loses_no_checkpoint(
    run_spec: dict[str, Any], tmp_path: Path, forks: Forks
) -> None:
    run_spec["model"] |= {"d_model": 8, "n_layers": 1}
    run_spec |= {"steps": 300, "batch_size": 4, "micro_batch_size": 4, "eval": {"every": 1000}}
    run = tmp_path / "run"
    gptzoo.train({**run_spec, "steps": 4}, tmp_path / "short", quiet=True)
    largest = max(file.stat().st_size for file in (tmp_path / "short" / "checkpoints").rglob("*.safetensors"))
    code = forks.call("train_with_room_for", largest + 4096, run_spec, str(run))  # the metrics outgrow the checkpoints
    assert code == 2, forks.log.read_text()
    assert "metrics.jsonl: cannot be written" in forks.log.read_text()
    kept = newest_valid_checkpoint(run / "checkpoints")
    assert kept is not None
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()[:-1]]
    assert rows[-1]["step"] >= json.loads((kept / "state.json").read_text())["standing"]["step"]


@pytest.mark.slow
@forking
def test_a_disk_that_is_full_from_any_file_operation_on_is_reported_and_loses_nothing_saved(
    run_spec: dict[str, Any], tmp_path: Path, forks: Forks
) -> None:
    """The disk is full from each open, write, sync and rename on. With space again, the run resumes."""
    run_spec |= {"steps": 3, "batch_size": 8, "micro_batch_size": 4, "eval": {"every": 2}, "checkpoint": {"every": 1}}
    whole = tmp_path / "whole"
    gptzoo.train(run_spec, whole, quiet=True)
    failures = 0
    saved: set[int] = set()
    for at in range(1, 10**4):
        run = tmp_path / str(at)
        code = forks.call("train", run_spec, str(run), {"at": at, "code": errno.ENOSPC})
        stderr = forks.log.read_text()
        if code == 0:
            break
        assert code == 2, stderr
        assert "Traceback" not in stderr
        assert "cannot be written" in stderr
        assert "No space left on device" in stderr
        assert "continue with --resume" in stderr
        failures += 1
        kept = newest_valid_checkpoint(run / "checkpoints")
        saved.add(0 if kept is None else int(kept.name[-8:]))
        assert forks.call("train", run_spec, str(run)) == 0, forks.log.read_text()
        assert_same_run(whole, run)
        shutil.rmtree(run)
    assert failures > 60
    assert saved == {0, 1, 2, 3}


@forking
@pytest.mark.parametrize("code", [errno.EROFS, errno.EACCES])
def test_a_read_only_folder_is_reported_in_one_line(
    run_spec: dict[str, Any], tmp_path: Path, forks: Forks, code: int
) -> None:
    gptzoo.train(run_spec, tmp_path / "run", quiet=True)
    before = {file: file.read_bytes() for file in (tmp_path / "run").rglob("*.*") if file.is_file()}
    for run in (tmp_path / "new", tmp_path / "run"):
        assert forks.call("train", run_spec, str(run), {"at": 1, "code": code, "removing": True}) == 2
        stderr = forks.log.read_text()
        assert f"{run}: cannot be written: {os.strerror(code)}" in stderr
        assert "Traceback" not in stderr
    assert {file: file.read_bytes() for file in before} == before


@pytest.mark.parametrize("size", [0, 7, 100, -2])
@pytest.mark.parametrize("file", ["model.safetensors", "optimizer.safetensors", "state.json", "manifest.json"])
def test_a_run_resumes_from_the_checkpoint_before_a_truncated_one(
    run_spec: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str], file: str, size: int
) -> None:
    run_spec |= {"steps": 2, "batch_size": 8, "micro_batch_size": 4, "checkpoint": {"every": 1}}
    gptzoo.train(run_spec, tmp_path / "whole", quiet=True)
    shutil.copytree(tmp_path / "whole", tmp_path / "run")
    damaged = tmp_path / "run" / "checkpoints" / "step-00000002" / file
    damaged.write_bytes(damaged.read_bytes()[:size])
    gptzoo.train(run_spec, tmp_path / "run", resume=True)
    stderr = capsys.readouterr().err
    assert f"step-00000002: skipped: {file} " in stderr
    assert "resumed at step 1" in stderr
    assert_same_run(tmp_path / "whole", tmp_path / "run")


def test_a_run_without_a_valid_checkpoint_starts_again_and_reports_it(
    run_spec: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_spec |= {"steps": 2, "batch_size": 8, "micro_batch_size": 4, "checkpoint": {"every": 1}}
    gptzoo.train(run_spec, tmp_path / "whole", quiet=True)
    shutil.copytree(tmp_path / "whole", tmp_path / "run")
    for weights in (tmp_path / "run").rglob("model.safetensors"):
        weights.unlink()
    gptzoo.train(run_spec, tmp_path / "run", resume=True)
    assert capsys.readouterr().err.count("skipped: model.safetensors is missing") == 2
    assert_same_run(tmp_path / "whole", tmp_path / "run")


# ---------------------------------------------------------------------- signals and divergence


@pytest.fixture
def default_sigint_handler() -> Iterator[None]:
    """Restore the handler: a shell that starts the tests in the background sets SIGINT to be ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_a_second_ctrl_c_ends_the_run_at_once_without_damage(
    run_spec: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, default_sigint_handler: None
) -> None:
    gptzoo.train(run_spec, tmp_path / "whole", quiet=True)

    def interrupt_twice(trainer: Any) -> None:
        if trainer.train_state.step == 6:
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)

    with monkeypatch.context() as patch:
        before_step(patch, interrupt_twice)
        with pytest.raises(KeyboardInterrupt):
            gptzoo.train(run_spec, tmp_path / "run", quiet=True)
    assert max(list_checkpoints(tmp_path / "run" / "checkpoints")) == 4  # it saved no checkpoint after the signal
    gptzoo.train(run_spec, tmp_path / "run", resume=True, quiet=True)
    assert_same_run(tmp_path / "whole", tmp_path / "run")


@forking
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2])
def test_a_process_that_gets_a_signal_saves_and_exits_with_code_4(
    run_spec: dict[str, Any], tmp_path: Path, forks: Forks, number: signal.Signals
) -> None:
    run_spec |= {"steps": 100000, "checkpoint": {"every": 100000}, "eval": {"every": 1000}}
    process_id = forks.start("train", run_spec, str(tmp_path / "run"))
    wait_for_step(tmp_path / "run", 2)
    os.kill(process_id, number)
    assert forks.wait() == 4, forks.log.read_text()
    (kept,) = list_checkpoints(tmp_path / "run" / "checkpoints")
    assert f"{number.name} at step {kept}. A checkpoint was saved; continue with --resume" in forks.log.read_text()


def wait_for_step(run: Path, step: int) -> None:
    metrics = run / "metrics.jsonl"
    while not metrics.exists() or metrics.read_text().count("\n") <= step:
        time.sleep(0.005)


def test_a_diverged_run_exits_with_code_3(
    run_spec: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    overflow_at(monkeypatch, 5)
    (tmp_path / "run.json").write_text(json.dumps(run_spec))
    result = CliRunner().invoke(main, ["train", str(tmp_path / "run.json"), "--out", str(tmp_path / "run"), "--bare"])
    assert result.exit_code == 3
    assert "gradient norm of step 6 is inf, over samples 320 to 383" in result.stderr
    assert "The last checkpoint is step-00000004" in result.stderr


def test_missing_tokens_are_prepared_again_and_missing_text_is_an_error(
    run_spec: dict[str, Any], text_file: Path, tmp_path: Path
) -> None:
    gptzoo.train(run_spec, tmp_path / "whole", quiet=True)
    (tokens,) = (tmp_path / "cache" / "tokens").glob("*/train.bin")
    tokens.unlink()
    gptzoo.train(run_spec, tmp_path / "again", quiet=True)
    assert tokens.exists()
    assert_same_run(tmp_path / "whole", tmp_path / "again")
    text_file.unlink()
    with pytest.raises(DataError, match=r"text\.txt: no such file or folder"):
        gptzoo.train(run_spec, tmp_path / "whole", resume=True, quiet=True)
    assert json.loads((tmp_path / "whole" / "status.json").read_text()) == {"status": "done"}
