"""The command `gptzoo ablate` in a process of its own: trials that end badly, kills at any time, and its scripts."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from gptzoo.errors import FolderError

PLUGIN = Path(__file__).parent / "misbehave.py"
ROOT = Path(__file__).parents[2]


def written(tmp_path: Path, axes: dict[str, Any], *, steps: int, save_every: int, **fields: Any) -> Path:
    """An ablation of runs of a moment, whose model has two activations a step."""
    (tmp_path / "page.txt").write_text("the quick brown fox jumps over the lazy dog. " * 40)
    base = {
        "model": {"context_length": 16, "d_model": 16, "n_layers": 2, "n_heads": 2, "activation": "misbehave"},
        "corpus": {"type": "text", "path": "page.txt"},
        "batch_size": 4,
        "steps": steps,
        "eval": {"every": 1000},
        "checkpoint": {"every": save_every},
        "sample": {"max_new_tokens": 4},
        "device": "cpu",
    }
    file = tmp_path / "ablation.json"
    file.write_text(json.dumps({"name": "tiny", "base": base, "axes": axes, "executor": {"type": "local"}, **fields}))
    return file


def command(*arguments: Any) -> list[str]:
    return [sys.executable, "-m", "gptzoo", "ablate", *map(str, arguments)]


def run(*arguments: Any, code: int = 0) -> str:
    done = subprocess.run(command(*arguments), capture_output=True, text=True, timeout=500)
    assert done.returncode == code, done.stderr
    return done.stdout


@pytest.mark.slow
def test_five_ways_to_fail_are_told_apart_and_the_three_good_ones_finish(tmp_path: Path) -> None:
    hows = ["well", "raise", "segfault", "exit", "nan", "hang"]
    choices: dict[str, Any] = {how: {"type": "misbehave", "how": how} for how in hows}
    choices |= {"steep": {"type": "misbehave", "slope": 2.0}, "flat": {"type": "misbehave", "slope": 0.5}}
    file = written(tmp_path, {"model.activation": {"choices": choices}}, steps=8, save_every=100, seeds=1, silence=15.0)
    out = tmp_path / "out"
    found = json.loads(run(file, "--out", out, "--plugin", PLUGIN, "--json", code=1))
    trials = {trial["variant"]: trial for trial in found["trials"]}
    assert {name for name, trial in trials.items() if trial["state"] == "done"} == {"well", "steep", "flat"}
    reasons = {name: trial["reason"] for name, trial in trials.items() if trial["state"] == "failed"}
    assert reasons["raise"] == "ended with code 1: ValueError: it went wrong"
    assert reasons["segfault"] == "killed by SIGSEGV"
    assert reasons["exit"] == "ended with code 137, as a process does that ran out of memory"
    assert reasons["nan"].startswith("diverged: ")
    assert reasons["hang"] == "hung: no step for 15 s"
    told = run("status", out, code=1)
    assert "failed: segfault seed 1: killed by SIGSEGV" in told


def states(out: Path) -> dict[str, str]:
    """By variant and seed, while other processes write."""
    from gptzoo.ablation.folder import read_outcome

    try:
        return {f"{trial.variant}-{trial.seed}": trial.state for trial in read_outcome(out).trials}
    except FolderError:  # not there yet
        return {}


@pytest.mark.slow
def test_killed_at_every_change_of_state_and_run_again_the_tables_are_the_same_bytes(tmp_path: Path) -> None:
    file = written(tmp_path, {"model.norm": ["pre_ln", "post_ln"]}, steps=30, save_every=10, seeds=2)
    arguments = (file, "--plugin", PLUGIN, "--out")
    whole = run(*arguments, tmp_path / "undisturbed")
    out = tmp_path / "out"
    seen: list[dict[str, str]] = [{}]  # states in which a runner was killed, and the beginning
    until = time.monotonic() + 300
    while time.monotonic() < until:
        process = subprocess.Popen(command(*arguments, out), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        while process.poll() is None and (now := states(out)) in seen:
            time.sleep(0.02)
        if process.poll() is not None:
            break
        seen.append(now)
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()
    told, said = process.communicate()
    assert process.returncode == 0, said
    assert len(seen) > 5  # when there is a plan, when a trial begins, and as each trial ends
    assert told == whole
    assert run("status", out, "--json") == run("status", tmp_path / "undisturbed", "--json")
    # A trial that was interrupted has gone on: it is no failure, and no attempt is held against it.
    assert not list(out.glob("trials/*/attempts.json"))


@pytest.mark.slow
def test_the_scripts_of_the_docs_run(tmp_path: Path) -> None:
    file = written(tmp_path, {"model.positional": ["rope", "learned"]}, steps=2, save_every=10, seeds=1)
    base = tmp_path / "configs" / "runs" / "ablation-base.json"
    base.parent.mkdir(parents=True)
    page = {"corpus": {"type": "text", "path": str(tmp_path / "page.txt")}}  # it is evaluated twenty times
    base.write_text(json.dumps(json.loads((ROOT / "configs" / "runs" / base.name).read_text()) | page))
    done = subprocess.run(
        [sys.executable, ROOT / "docs" / "ablation.py", "1"], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    lines = done.stdout.splitlines()
    assert lines[0].startswith("left out: {'model.positional': 'learned'")
    assert {line.split()[0] for line in lines[1:]} == {"baseline", "none", "rope", "sinusoidal", "post_ln"}
    source = (ROOT / "docs" / "ablation.py").read_text()
    assert len(source.splitlines()) < 28

    run(file, "--plugin", PLUGIN, "--set", "base.model.activation=relu", "--out", tmp_path / "out")
    longer = subprocess.run(
        [sys.executable, ROOT / "docs" / "extrapolation.py", tmp_path / "out"],
        capture_output=True,
        text=True,
        check=True,
    )
    learned, rope = longer.stdout.splitlines()
    assert re.findall(r"(\d+): \d", rope) == ["16", "32", "64"]
    assert re.findall(r"(\d+): \d", learned) == ["16"]


@pytest.mark.slow
def test_a_budget_in_seconds_is_as_many_steps_as_were_measured_and_stays_so(tmp_path: Path) -> None:
    axes = {"model.n_layers": [1, 6], "model.activation": ["relu"]}
    file = written(tmp_path, axes, steps=1, save_every=1000, seeds=1, budget={"seconds": 0.3}, samples=False)
    out = tmp_path / "out"
    told = run(file, "--plugin", PLUGIN, "--out", out)
    expected = set()
    for metrics in set(out.rglob("metrics.jsonl")) - set(out.glob("trials/*/metrics.jsonl")):
        rows = [json.loads(line) for line in metrics.read_text().splitlines()]
        seconds = [4 * 16 / row["tokens_per_second"] for row in rows if row["step"] > 4]
        n_layers = json.loads((metrics.parent / "run.json").read_text())["model"]["n_layers"]
        expected.add((n_layers, int(0.3 / statistics.median(seconds))))
    found = set()
    for trial in out.glob("trials/*"):
        last = json.loads((trial / "metrics.jsonl").read_text().splitlines()[-1])
        found.add((json.loads((trial / "run.json").read_text())["model"]["n_layers"], last["step"]))
    assert len(found) == 2
    assert found == expected
    assert run(file, "--plugin", PLUGIN, "--out", out) == told
    assert len(list(out.glob("trials/*"))) == 2


@pytest.mark.slow
def test_in_a_terminal_the_table_of_what_runs_is_drawn_over_and_over(tmp_path: Path) -> None:
    file = written(tmp_path, {"model.activation": ["relu", "gelu"]}, steps=200, save_every=1000, seeds=1, samples=False)
    ours, theirs = os.openpty()
    process = subprocess.Popen(
        command(file, "--plugin", PLUGIN, "--out", tmp_path / "out"),
        stdout=subprocess.PIPE,
        stderr=theirs,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "120"},
    )
    os.close(theirs)
    drawn = b""
    with contextlib.suppress(OSError):  # which Linux says when nobody has the other end open
        while part := os.read(ours, 4096):
            drawn += part
    os.close(ours)
    told, _ = process.communicate()
    assert process.returncode == 0
    assert b"2 trials: 2 done" in told
    assert b"\x1b[" not in told  # a table for a file, wherever the notes go
    assert drawn.count(b"\x1b[1A") > 2  # up a line, to draw over it
    assert b"2/2  done" in drawn
    assert b"2 running" in drawn or b"1 running" in drawn
