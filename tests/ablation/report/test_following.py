"""`gptzoo report --serve` while the ablation trains: the page shows each trial as it finishes."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from gptzoo.ablation.planning.folder import read_outcome
from gptzoo.ablation.report.write import write_report

SPEC = {
    "name": "followed",
    "base": {
        "model": {"context_length": 16, "d_model": 16, "n_layers": 1, "n_heads": 2},
        "corpus": {"type": "stories", "n_stories": 60},
        "batch_size": 4,
        "steps": 8,
        "eval": {"every": 2},
        "device": "cpu",
    },
    "axes": {"model.norm": ["pre_ln", "post_ln"]},
    "seeds": 2,
    "samples": False,
    "executor": {"type": "local", "n_workers": 1},
}

# A plugin that blocks each trial at step 4 until the test creates a file named "ticket".
TURNSTILE = """
import pathlib
import time

import gptzoo

ticket = pathlib.Path(__file__).with_name("ticket")


@gptzoo.hookimpl
def gptzoo_components():
    return []


@gptzoo.hookimpl
def gptzoo_step(row):
    while row["step"] == 4:
        try:
            ticket.unlink()
            return
        except FileNotFoundError:
            time.sleep(0.02)
"""


def _restore_ctrl_c() -> None:
    """Handle SIGINT as in a terminal. Shells make background processes ignore it, and children inherit that."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@contextmanager
def command(*arguments: Any) -> Iterator[subprocess.Popen[str]]:
    line = [sys.executable, "-m", "gptzoo", *map(str, arguments)]
    process = subprocess.Popen(
        line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=_restore_ctrl_c
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def wait_for(read: Callable[[], object], expected: object) -> None:
    """Poll until `read` returns the expected value."""
    deadline = time.monotonic() + 120
    while (value := read()) != expected:
        assert time.monotonic() < deadline, f"timed out: got {value}, expected {expected}"
        time.sleep(0.1)


def data_of(page: str) -> dict[str, Any]:
    """Return the data of the figures, without the version of a served page."""
    match = re.search(r'<script[^>]* id="data">(.*?)</script>', page, re.DOTALL)
    assert match
    data: dict[str, Any] = json.loads(match[1])
    del data["version"]
    return data


@pytest.mark.slow
def test_a_served_page_follows_the_trials_and_ends_equal_to_the_report(tmp_path: Path) -> None:
    spec, turnstile, out = tmp_path / "ablation.json", tmp_path / "turnstile.py", tmp_path / "out"
    spec.write_text(json.dumps(SPEC))
    turnstile.write_text(TURNSTILE)
    with command("ablate", spec, "--plugin", turnstile, "--out", out) as training:
        wait_for((out / "ablation.json").exists, True)
        with command("report", out, "--serve", "--port", 0) as serving:
            assert serving.stderr is not None
            address = next(line for line in serving.stderr if line.startswith("http")).split()[0]

            def get(path: str) -> str:
                with urllib.request.urlopen(address + path, timeout=60) as response:
                    text: str = response.read().decode()
                    return text

            def states() -> Counter[str]:
                return Counter(re.findall(r"<td>(waiting|running|done|failed)\b", get("page")))

            versions = []
            for n_done in range(4):
                wait_for(states, Counter(done=n_done, running=1, waiting=3 - n_done))
                assert f"Preliminary: {4 - n_done} of 4 trials" in get("page")
                versions.append(get("version"))
                (tmp_path / "ticket").touch()
            stdout, stderr = training.communicate(timeout=120)
            assert training.returncode == 0, stderr
            assert "followed: 4 trials: 4 done" in stdout
            page = get("page")
            assert states() == Counter(done=4)
            assert "Preliminary" not in page
            assert len({*versions, get("version")}) == 5
            serving.send_signal(signal.SIGINT)
            assert serving.wait(timeout=60) == 0
    report = write_report(read_outcome(out), tmp_path / "report").page.read_text(encoding="utf-8")
    assert data_of(page) == data_of(report)
    assert data_of(page)["figures"]
