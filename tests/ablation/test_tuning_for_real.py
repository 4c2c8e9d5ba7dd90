"""A tuned ablation whose grids are extended, trained by the command, and killed while it is."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest


def write_spec(tmp_path: Path) -> Path:
    (tmp_path / "page.txt").write_text("the quick brown fox jumps over the lazy dog. " * 40)
    base = {
        "model": {"context_length": 16, "d_model": 16, "n_layers": 1, "n_heads": 2},
        "corpus": {"type": "text", "path": "page.txt"},
        "batch_size": 4,
        "steps": 20,
        "optimizer": {"type": "adamw", "lr": 1e-4},
        "eval": {"every": 20},
        "sample": {"max_new_tokens": 0},
        "device": "cpu",
    }
    spec = {
        "name": "tiny",
        "base": base,
        "axes": {"model.norm": ["pre_ln", "post_ln"]},
        "seeds": 1,
        "tune": {"factors": [1.0, 8.0], "seeds": [1000], "extend": True},
        "samples": False,
    }
    file = tmp_path / "ablation.json"
    file.write_text(json.dumps(spec))
    return file


def command(*arguments: Any) -> list[str]:
    return [sys.executable, "-m", "gptzoo", "ablate", *map(str, arguments)]


def run(*arguments: Any) -> str:
    done = subprocess.run(command(*arguments), capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stderr
    return done.stdout


def n_done(out: Path) -> int:
    return sum('"done"' in file.read_text() for file in out.glob("trials/*/status.json"))


@pytest.mark.slow
def test_an_extended_grid_that_is_killed_tries_the_same_values_and_chooses_the_best_of_them(tmp_path: Path) -> None:
    file, out = write_spec(tmp_path), tmp_path / "out"
    whole = run(file, "--out", tmp_path / "undisturbed")
    for at in (1, 5):  # in the grid of the spec, and in the first extension
        process = subprocess.Popen(command(file, "--out", out), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        until = time.monotonic() + 200
        while process.poll() is None and n_done(out) < at and time.monotonic() < until:
            time.sleep(0.02)
        assert process.poll() is None
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()
    assert run(file, "--out", out) == whole
    assert "optimizer.lr was tuned for each variant before the comparison, by the mean val/loss of seed 1000:" in whole
    grids = json.loads(run("status", out, "--json"))["tuning"]
    assert grids == json.loads(run("status", tmp_path / "undisturbed", "--json"))["tuning"]
    for grid in grids:
        losses = final_losses(out, grid["variant"])
        assert {value["value"]: value["mean"] for value in grid["grid"]} == losses
        assert grid["n_added"] == len(losses) - 2 > 0
        assert grid["best"] == min(losses, key=lambda value: losses[value])
        assert grid["edge"] is None or grid["n_added"] == 5
        compared = json.loads(next(out.glob(f"trials/{grid['variant']}-seed1-*/run.json")).read_text())
        assert compared["optimizer"]["lr"] == grid["best"]


def final_losses(out: Path, variant: str) -> dict[float, float]:
    """Read the last loss of each tuning run of a variant, by its learning rate."""
    losses = {}
    for run_folder in out.glob(f"trials/{variant}-seed1000-*"):
        lr = json.loads((run_folder / "run.json").read_text())["optimizer"]["lr"]
        losses[lr] = json.loads((run_folder / "metrics.jsonl").read_text().splitlines()[-1])["val/loss"]
    return losses
