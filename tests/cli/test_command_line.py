"""The command line as a whole: how it says what went wrong outside of any one command."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

from gptzoo.cli import main

TINY = Path(__file__).parents[2] / "configs" / "models" / "tiny.json"


def test_a_terminal_without_the_letters_of_a_card_ends_no_command() -> None:
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    done = subprocess.run(
        [sys.executable, "-m", "gptzoo", "build", str(TINY)], capture_output=True, check=False, env=environment
    )
    assert done.returncode == 0, done.stderr
    assert b"1,498,880 parameters" in done.stdout


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
def test_an_output_without_room_is_told_in_a_line() -> None:
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            [sys.executable, "-m", "gptzoo", "schema", "model"], stdout=full, stderr=subprocess.PIPE, check=False
        )
    assert done.returncode == 2
    assert done.stderr.decode() == "the output: cannot be written: No space left on device\n"


@pytest.mark.parametrize(
    "error",
    [
        MemoryError("Unable to allocate 745. GiB"),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:1] DefaultCPUAllocator: can't allocate memory"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_a_want_of_memory_is_told_with_what_takes_less(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    def ask_for_too_much(*_: object) -> None:
        raise error

    monkeypatch.setattr("gptzoo.cli.reading.read_spec", ask_for_too_much)
    done = CliRunner().invoke(main, ["build", str(TINY)])
    assert done.exit_code == 2
    assert done.stderr.startswith(f"out of memory: {error}; a smaller micro_batch_size")


def test_another_error_of_torch_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("shapes do not match")

    monkeypatch.setattr("gptzoo.cli.reading.read_spec", fail)
    done = CliRunner().invoke(main, ["build", str(TINY)])
    assert isinstance(done.exception, RuntimeError)
