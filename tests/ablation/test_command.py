"""The command `gptzoo ablate` in its own process: trials that fail, kills at any time, and the scripts of the docs."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
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


def write_spec(tmp_path: Path, axes: dict[str, Any], *, steps: int, save_every: int, **fields: Any) -> Path:
    """Write an ablation whose runs take a moment. The model calls two activations per step."""
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
def test_five_ways_to_fail_have_different_reasons_and_the_three_good_trials_finish(tmp_path: Path) -> None:
    hows = ["well", "raise", "segfault", "exit", "nan", "hang"]
    choices: dict[str, Any] = {how: {"type": "misbehave", "how": how} for how in hows}
    choices |= {"steep": {"type": "misbehave", "slope": 2.0}, "flat": {"type": "misbehave", "slope": 0.5}}
    file = write_spec(
        tmp_path, {"model.activation": {"choices": choices}}, steps=8, save_every=100, seeds=1, silence=15.0
    )
    out = tmp_path / "out"
    printed = json.loads(run(file, "--out", out, "--plugin", PLUGIN, "--json", code=1))
    trials = {trial["variant"]: trial for trial in printed["trials"]}
    assert {name for name, trial in trials.items() if trial["state"] == "done"} == {"well", "steep", "flat"}
    reasons = {name: trial["reason"] for name, trial in trials.items() if trial["state"] == "failed"}
    assert reasons["raise"] == "exited with code 1: ValueError: it went wrong"
    assert reasons["segfault"] == "killed by SIGSEGV"
    assert reasons["exit"] == "exited with code 137 (usually out of memory)"
    assert reasons["nan"].startswith("diverged: ")
    assert reasons["hang"] == "hung: no step for 15 s"
    status = run("status", out, code=1)
    assert "failed: segfault seed 1: killed by SIGSEGV" in status


@pytest.mark.slow
def test_tables_with_failures_do_not_depend_on_the_name_of_the_folder(tmp_path: Path) -> None:
    choices = {"well": {"optimizer.lr": 1e-3}, "wild": {"optimizer.lr": 1e30}, "elsewhere": {"device": "cuda:77"}}
    file = write_spec(tmp_path, {"case": {"choices": choices}}, steps=6, save_every=2, seeds=2, samples=False)
    folders = (tmp_path / "out", tmp_path / "another" / "place")
    tables = [run(file, "--plugin", PLUGIN, "--out", out, code=1) for out in folders]
    assert "diverged: the loss of step" in tables[0]
    assert "refused: device 'cuda:77'" in tables[0]
    assert tables[0] == tables[1]
    statuses = [run("status", out, "--json", code=1) for out in folders]
    assert statuses[0] == statuses[1]
    trials = []
    for out in folders:
        subprocess.run([sys.executable, "-m", "gptzoo", "report", str(out)], check=True, capture_output=True)
        trials.append((out / "report" / "tables" / "trials.csv").read_bytes())
    assert trials[0] == trials[1]


def states(out: Path) -> dict[str, str]:
    """Return the states by variant and seed, while other processes write."""
    from gptzoo.ablation.planning.folder import read_outcome

    try:
        return {f"{trial.variant}-{trial.seed}": trial.state for trial in read_outcome(out).trials}
    except FolderError:  # there is no plan yet
        return {}


@pytest.mark.slow
def test_an_ablation_killed_at_every_change_of_state_ends_with_the_same_tables(tmp_path: Path) -> None:
    file = write_spec(tmp_path, {"model.norm": ["pre_ln", "post_ln"]}, steps=30, save_every=10, seeds=2)
    arguments = (file, "--plugin", PLUGIN, "--out")
    whole = run(*arguments, tmp_path / "undisturbed")
    out = tmp_path / "out"
    kill_states: list[dict[str, str]] = [{}]  # the states in which a runner was killed
    until = time.monotonic() + 300
    while time.monotonic() < until:
        process = subprocess.Popen(command(*arguments, out), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        while process.poll() is None and (now := states(out)) in kill_states:
            time.sleep(0.02)
        if process.poll() is not None:
            break
        kill_states.append(now)
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()
    stdout, stderr = process.communicate()
    assert process.returncode == 0, stderr
    assert len(kill_states) > 5  # after the plan, after the start of a trial, and after the end of each trial
    assert stdout == whole
    assert run("status", out, "--json") == run("status", tmp_path / "undisturbed", "--json")
    # A trial that was interrupted has resumed. That is not a failed attempt.
    assert not list(out.glob("trials/*/attempts.json"))


@pytest.mark.slow
def test_the_scripts_of_the_docs_run(tmp_path: Path) -> None:
    file = write_spec(tmp_path, {"model.positional": ["rope", "learned"]}, steps=2, save_every=10, seeds=1)
    base = tmp_path / "configs" / "runs" / "ablation-base.json"
    base.parent.mkdir(parents=True)
    page = {"corpus": {"type": "text", "path": str(tmp_path / "page.txt")}}  # it is evaluated twenty times
    base.write_text(json.dumps(json.loads((ROOT / "configs" / "runs" / base.name).read_text()) | page))
    done = subprocess.run(
        [sys.executable, ROOT / "docs" / "ablation.py", "1"], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    lines = done.stdout.splitlines()
    assert lines[0].startswith("excluded: {'model.positional': 'learned'")
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
def test_a_budget_in_seconds_is_measured_once_and_keeps_its_number_of_steps(tmp_path: Path) -> None:
    axes = {"model.n_layers": [1, 6], "model.activation": ["relu"]}
    file = write_spec(tmp_path, axes, steps=1, save_every=1000, seeds=1, budget={"seconds": 0.3}, samples=False)
    out = tmp_path / "out"
    tables = run(file, "--plugin", PLUGIN, "--out", out)
    expected = set()
    for metrics in set(out.rglob("metrics.jsonl")) - set(out.glob("trials/*/metrics.jsonl")):
        rows = [json.loads(line) for line in metrics.read_text().splitlines()]
        seconds = [4 * 16 / row["tokens_per_second"] for row in rows if row["step"] > 4]
        n_layers = json.loads((metrics.parent / "run.json").read_text())["model"]["n_layers"]
        expected.add((n_layers, int(0.3 / statistics.median(seconds))))
    trained = set()
    for trial in out.glob("trials/*"):
        last = json.loads((trial / "metrics.jsonl").read_text().splitlines()[-1])
        trained.add((json.loads((trial / "run.json").read_text())["model"]["n_layers"], last["step"]))
    assert len(trained) == 2
    assert trained == expected
    assert run(file, "--plugin", PLUGIN, "--out", out) == tables
    assert len(list(out.glob("trials/*"))) == 2


@pytest.mark.slow
def test_in_a_terminal_the_table_of_running_trials_is_redrawn(tmp_path: Path) -> None:
    file = write_spec(
        tmp_path, {"model.activation": ["relu", "gelu"]}, steps=200, save_every=1000, seeds=1, samples=False
    )
    ours, theirs = os.openpty()
    process = subprocess.Popen(
        command(file, "--plugin", PLUGIN, "--out", tmp_path / "out"),
        stdout=subprocess.PIPE,
        stderr=theirs,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "120"},
    )
    os.close(theirs)
    drawn = b""
    with contextlib.suppress(OSError):  # Linux raises it when the other end of the terminal is closed
        while part := os.read(ours, 4096):
            drawn += part
    os.close(ours)
    stdout, _ = process.communicate()
    assert process.returncode == 0
    assert b"2 trials: 2 done" in stdout
    assert b"\x1b[" not in stdout  # stdout is no terminal, although stderr is
    assert drawn.count(b"\x1b[1A") > 2  # moves the cursor up a line to overwrite it
    assert b"2/2  done" in drawn
    assert b"2 running" in drawn or b"1 running" in drawn


def halved(tmp_path: Path, n_rates: int = 2) -> Path:
    """Write an ablation with successive halving that takes a few seconds, with two variants per learning rate."""
    axes = {"optimizer.lr": [0.001 * (1 + rate) for rate in range(n_rates)], "model.norm": ["pre_ln", "post_ln"]}
    return write_spec(tmp_path, axes, steps=24, save_every=10, seeds=1, halving={"eta": 1.5, "rungs": [0.25, 0.5]})


HALVING = ("--set", "base.eval.every=6", "--plugin", PLUGIN, "--out")


def n_ended(out: Path) -> int:
    """Count the trials that are done, in rungs and in the comparison, while other processes write; -1 before a plan."""
    from gptzoo.ablation.planning.folder import read_outcome

    try:
        outcome = read_outcome(out)
    except FolderError:  # there is no plan yet
        return -1
    assert outcome.selection is not None
    in_rungs = [trial for rung in outcome.selection.rungs for entry in rung.entries for trial in entry.trials.values()]
    return sum(trial.state == "done" for trial in (*in_rungs, *outcome.trials))


def run_killed(file: Path, out: Path, at: int) -> None:
    """Run an ablation until `at` trials are done, then kill it."""
    process = subprocess.Popen(command(file, *HALVING, out), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    until = time.monotonic() + 200
    while process.poll() is None and n_ended(out) < at and time.monotonic() < until:
        time.sleep(0.02)
    assert process.poll() is None
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()


@pytest.mark.slow
def test_a_selection_killed_in_each_rung_and_in_the_comparison_ends_with_the_same_tables(tmp_path: Path) -> None:
    file = halved(tmp_path)
    whole = run(file, *HALVING, tmp_path / "undisturbed")
    out = tmp_path / "out"
    for at in (1, 4, 6, 8):  # of four in the first rung, three in the second and two in the comparison
        run_killed(file, out, at)
    assert run(file, *HALVING, out) == whole
    assert run("status", out, "--json") == run("status", tmp_path / "undisturbed", "--json")
    assert not list(out.glob("trials/*/attempts.json"))


@pytest.mark.slow
def test_two_runners_of_a_selection_agree_and_a_promoted_trial_equals_a_run_without_pause(tmp_path: Path) -> None:
    file, out = halved(tmp_path), tmp_path / "out"
    both = [
        subprocess.Popen(command(file, *HALVING, out), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    (first, stderr), (second, second_stderr) = (process.communicate(timeout=500) for process in both)
    assert [process.returncode for process in both] == [0, 0], stderr + second_stderr
    assert first == second
    status = json.loads(run("status", out, "--json"))
    assert [len(rung["entries"]) for rung in status["selection"]["rungs"]] == [4, 3]
    assert status["states"] == {"done": 2}
    last = [entry["variant"] for entry in status["selection"]["rungs"][1]["entries"]]
    for trial in out.glob("trials/*"):
        variant, seed = trial.name.rsplit("-", 1)[0].split("-seed")
        rows = (trial / "metrics.jsonl").read_text().splitlines()
        assert json.loads(rows[-1])["step"] == (24 if seed != "1000" else 12 if variant in last else 6)
    promoted, alone = next(out.glob(f"trials/{last[0]}-seed1000-*")), tmp_path / "alone"
    train = [sys.executable, "-m", "gptzoo", "train", promoted / "spec.json", "--bare", "--plugin", PLUGIN]
    subprocess.run([*map(str, train), "--out", str(alone)], check=True, capture_output=True)
    lines = [(folder / "metrics.jsonl").read_text().splitlines()[1:13] for folder in (promoted, alone)]
    losses, whole = ([json.loads(line)["train/loss"] for line in of] for of in lines)
    assert losses == whole


@pytest.mark.slow
def test_variants_added_later_give_the_tables_of_an_ablation_that_had_them_from_the_start(tmp_path: Path) -> None:
    grown, at_once = tmp_path / "grown", tmp_path / "at once"
    run(halved(tmp_path, 1), *HALVING, grown)
    whole = run(halved(tmp_path, 2), *HALVING, at_once)
    ended = {file: file.stat().st_mtime_ns for file in grown.glob("trials/*-seed1-*/metrics.jsonl")}
    assert len(ended) == 2
    for checkpoints in grown.glob("trials/*-seed1000-*/checkpoints"):
        shutil.rmtree(checkpoints)  # users may free disk space in this way
    assert run(halved(tmp_path, 2), *HALVING, grown) == whole
    assert {file: file.stat().st_mtime_ns for file in ended} == ended


@pytest.mark.slow
def test_a_search_that_is_killed_makes_the_same_suggestions_and_tables(tmp_path: Path) -> None:
    axes = {"optimizer.lr": {"low": 1e-3, "high": 1e-1, "log": True}, "model.norm": ["pre_ln", "post_ln"]}
    fields: dict[str, Any] = {"mode": "tpe", "n_variants": 4, "n_at_once": 2, "halving": {"rungs": [0.25]}, "seeds": 1}
    file = write_spec(tmp_path, axes, steps=24, save_every=10, **fields)
    whole = run(file, *HALVING, tmp_path / "undisturbed", "--set", "executor.n_workers=1")
    out = tmp_path / "out"
    for at in (2, 4):  # in the first batch, and in the second
        run_killed(file, out, at)
    assert run(file, *HALVING, out) == whole  # with two workers
    assert (out / "suggestions.json").read_bytes() == (tmp_path / "undisturbed" / "suggestions.json").read_bytes()
