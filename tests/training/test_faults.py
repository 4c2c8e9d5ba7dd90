"""Disks that are full, and what a run that cannot go on leaves behind."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from runs import assert_same_run

import gptzoo
from gptzoo.checkpoint.checkpoints import checkpoints, newest_valid

# A file may grow no larger than so much: to whoever writes it is as if the disk were full.
LIMITED = """
import json, resource, signal, sys
import gptzoo
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[3]), resource.RLIM_INFINITY))
try:
    gptzoo.train(json.loads(sys.argv[1]), sys.argv[2], resume=True, quiet=True)
except gptzoo.GptzooError as error:
    print(error, file=sys.stderr)
    sys.exit(error.exit_code)
"""


def train_with_room_for(n_bytes: int, spec: dict[str, Any], run: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", LIMITED, json.dumps(spec), str(run), str(n_bytes)]
    return subprocess.run(command, capture_output=True, text=True)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits the size of files as Linux does")
def test_a_checkpoint_that_finds_no_room_leaves_those_before_it_and_the_run_goes_on(
    run_spec: dict[str, Any], tmp_path: Path
) -> None:
    gptzoo.train(run_spec, tmp_path / "whole", quiet=True)
    run = tmp_path / "run"
    largest = max(file.stat().st_size for file in (tmp_path / "whole" / "checkpoints").rglob("*.safetensors"))
    done = train_with_room_for(largest - 1, run_spec, run)
    assert done.returncode == 2, done.stderr
    assert "the checkpoint of step 4 cannot be written" in done.stderr
    assert "make room and go on with --resume" in done.stderr
    assert "Traceback" not in done.stderr
    assert not checkpoints(run / "checkpoints")
    assert json.loads((run / "status.json").read_text())["status"] == "failed"
    gptzoo.train(run_spec, run, resume=True, quiet=True)
    assert_same_run(tmp_path / "whole", run)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits the size of files as Linux does")
def test_metrics_that_find_no_room_end_the_run_with_what_it_had(run_spec: dict[str, Any], tmp_path: Path) -> None:
    run_spec |= {"steps": 1500, "batch_size": 4, "micro_batch_size": 4, "eval": {"every": 1000}}
    run = tmp_path / "run"
    gptzoo.train({**run_spec, "steps": 4}, tmp_path / "short", quiet=True)
    largest = max(file.stat().st_size for file in (tmp_path / "short" / "checkpoints").rglob("*.safetensors"))
    done = train_with_room_for(largest + 4096, run_spec, run)  # rows outgrow the checkpoints
    assert done.returncode == 2, done.stderr
    assert "metrics.jsonl: cannot be written" in done.stderr
    kept = newest_valid(run / "checkpoints")
    assert kept is not None
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()[:-1]]
    assert rows[-1]["step"] >= json.loads((kept / "state.json").read_text())["standing"]["step"]
