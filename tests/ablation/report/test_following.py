"""`gptzoo report --serve` beside an ablation that trains: what the page shows, trial by trial, up to its end."""

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

# Training stands still after its fourth step, until it finds a ticket to go on with.
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


def _hears_ctrl_c() -> None:
    """As from a terminal; what a shell starts in the background is deaf to it, and so are its children."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@contextmanager
def command(*arguments: Any) -> Iterator[subprocess.Popen[str]]:
    line = [sys.executable, "-m", "gptzoo", *map(str, arguments)]
    process = subprocess.Popen(
        line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=_hears_ctrl_c
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def come_to(look: Callable[[], Any], wanted: Any) -> None:
    """Look again and again until what is seen is what is wanted."""
    until = time.monotonic() + 120
    while (seen := look()) != wanted:
        assert time.monotonic() < until, f"{seen} is seen, {wanted} is wanted"
        time.sleep(0.1)


def data_of(page: str) -> dict[str, Any]:
    """What the figures are drawn from, without the version that makes a page ask for another."""
    found = re.search(r'<script[^>]* id="data">(.*?)</script>', page, re.DOTALL)
    assert found
    data: dict[str, Any] = json.loads(found[1])
    del data["version"]
    return data


@pytest.mark.slow
def test_the_page_gains_trials_as_they_are_trained_and_ends_as_the_report(tmp_path: Path) -> None:
    spec, turnstile, out = tmp_path / "ablation.json", tmp_path / "turnstile.py", tmp_path / "out"
    spec.write_text(json.dumps(SPEC))
    turnstile.write_text(TURNSTILE)
    with command("ablate", spec, "--plugin", turnstile, "--out", out) as training:
        come_to((out / "ablation.json").exists, True)
        with command("report", out, "--serve", "--port", 0) as serving:
            assert serving.stderr is not None
            address = serving.stderr.readline().split()[0]

            def get(what: str) -> str:
                with urllib.request.urlopen(address + what, timeout=60) as answer:
                    text: str = answer.read().decode()
                    return text

            def states() -> Counter[str]:
                return Counter(re.findall(r"<td>(waiting|running|done|failed)\b", get("page")))

            versions = []
            for n_done in range(4):
                come_to(states, Counter(done=n_done, running=1, waiting=3 - n_done))
                assert f"Preliminary: {4 - n_done} of 4 trials" in get("page")
                versions.append(get("version"))
                (tmp_path / "ticket").touch()
            told, said = training.communicate(timeout=120)
            assert training.returncode == 0, said
            assert "followed: 4 trials: 4 done" in told
            page = get("page")
            assert states() == Counter(done=4)
            assert "Preliminary" not in page
            assert len({*versions, get("version")}) == 5
            serving.send_signal(signal.SIGINT)
            assert serving.wait(timeout=60) == 0
    report = write_report(read_outcome(out), tmp_path / "report").page.read_text(encoding="utf-8")
    assert data_of(page) == data_of(report)
    assert data_of(page)["figures"]
