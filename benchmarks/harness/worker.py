"""A side in a process of its own, such as a peer whose requirements clash with gptzoo's.

The process reads commands from its input, one a line, and answers each with one line of JSON. It times its own work, so
the time of the pipe does not count.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from benchmarks.harness.environment import ROOT


class Worker:
    """A process that answers commands."""

    def __init__(self, process: subprocess.Popen[str]):
        self.process = process

    def ask(self, command: str) -> Any:
        """Return the answer to a command. Raises RuntimeError if the process has ended."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(command + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self.process.args}: ended with code {self.process.wait()}")
        return json.loads(line)


@contextlib.contextmanager
def start_worker(python: str, module: str, arguments: Sequence[str]) -> Iterator[Worker]:
    """Start `python -m module arguments` in the root of the repository, and end it with the block."""
    process = subprocess.Popen(
        [python, "-m", module, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT
    )
    try:
        yield Worker(process)
    finally:
        process.kill()
        process.wait()


def answer(commands: Mapping[str, Callable[[], Any]]) -> None:
    """Answer commands until the input ends. Other output of the process goes to its error stream."""
    answers, sys.stdout = sys.stdout, sys.stderr
    for line in sys.stdin:
        answers.write(json.dumps(commands[line.strip()]()) + "\n")
        answers.flush()
