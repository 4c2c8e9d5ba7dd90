"""gptzoo report --serve beside a gptzoo ablate that trains: the page gains trials as they end."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from gptzoo.ablation.analyse import analyse
from gptzoo.ablation.folder import read_outcome
from gptzoo.ablation.report.figures import figures
from gptzoo.ablation.report.page import page
from gptzoo.ablation.report.tables import tables

N_TRIALS = 4
PATIENCE = 240.0  # seconds


def written(tmp_path: Path) -> Path:
    """An ablation of two norms and two seeds, one trial after the other."""
    (tmp_path / "page.txt").write_text("the quick brown fox jumps over the lazy dog. " * 40)
    base = {
        "model": {"context_length": 16, "d_model": 16, "n_layers": 2, "n_heads": 2},
        "corpus": {"type": "text", "path": "page.txt"},
        "batch_size": 4,
        "steps": 120,
        "eval": {"every": 40},
        "sample": {"max_new_tokens": 4},
        "device": "cpu",
    }
    file = tmp_path / "ablation.json"
    axes = {"model.norm": ["pre_ln", "post_ln"]}
    executor = {"type": "local", "n_workers": 1}
    file.write_text(json.dumps({"name": "followed", "base": base, "axes": axes, "seeds": 2, "executor": executor}))
    return file


def started(*arguments: str | Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "gptzoo", *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def asked(address: str) -> str:
    with urllib.request.urlopen(address, timeout=60) as answer:
        return str(answer.read().decode())


def n_done(html: str) -> int:
    told = re.search(r"(\d+) done", html)
    return int(told[1]) if told else 0


@pytest.mark.slow
def test_the_page_of_an_ablation_that_trains_gains_its_trials_one_by_one(tmp_path: Path) -> None:
    out = tmp_path / "out"
    training = started("ablate", written(tmp_path), "--out", out)
    until = time.monotonic() + PATIENCE
    while not (out / "variants.json").is_file():
        assert training.poll() is None
        assert time.monotonic() < until
        time.sleep(0.05)
    serving = started("report", out, "--serve", "--port", "0")
    assert serving.stderr is not None
    address = serving.stderr.readline().split()[0]
    seen: dict[int, str] = {}  # the first page with so many trials done
    version = ""
    try:
        while N_TRIALS not in seen and time.monotonic() < until:
            now = asked(f"{address}version")
            if now == version:
                time.sleep(0.05)
                continue
            version, html = now, asked(address)
            seen.setdefault(n_done(html), html)
    finally:
        serving.send_signal(signal.SIGINT)
        _, said = serving.communicate(timeout=60)
        training.wait(timeout=PATIENCE)
    assert "ended" in said
    assert training.returncode == 0
    assert list(seen) == sorted(seen)  # never fewer than before
    assert {1, 2, 3, 4} <= set(seen)
    for n, html in seen.items():
        open_ones = N_TRIALS - n
        assert (f"Preliminary: {open_ones} of {N_TRIALS} trials not done yet." in html) == (open_ones > 0)
    found = read_outcome(out)
    analysis = analyse(found)
    version_shown = re.search(r'"version":"([0-9a-f]+)"', seen[N_TRIALS])
    assert version_shown is not None
    whole = page(found, analysis, figures(found, analysis), tables(found, analysis), version=version_shown[1])
    assert seen[N_TRIALS] == whole  # what is served at the end is what a report of the folder says
