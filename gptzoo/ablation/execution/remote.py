"""A job on another machine of a cluster, which shares with the runner a file system and nothing else.

The runner writes the number of a signal into a file beside the job's log, and whoever runs the job passes it on; the
exit code comes back the same way. So an executor need only get `work` called somewhere.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from gptzoo.utils.atomic import write_text

_TICK = 0.2  # seconds between two looks for a signal


def work(arguments: Sequence[str], log: str) -> int:
    """Run `gptzoo` with these arguments, and be told to stop by file; returns its exit code, and leaves it in one."""
    file = Path(log)
    with open(file, "ab") as output:
        command = [sys.executable, "-m", "gptzoo", *arguments]
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
        while True:
            try:
                code = process.wait(timeout=_TICK)
                break
            except subprocess.TimeoutExpired:
                _pass_on(process, _signal_file(file))
    write_text(_code_file(file), str(code))
    return code


def renew(log: Path) -> None:
    """Forget what an earlier attempt left."""
    for file in (_signal_file(log), _code_file(log)):
        file.unlink(missing_ok=True)


def send(log: Path, number: int) -> None:
    """Have a signal sent to a job, wherever it runs."""
    write_text(_signal_file(log), str(number))


def code_of(log: Path) -> int | None:
    """The exit code of a job, or None if it has left none."""
    with contextlib.suppress(FileNotFoundError):
        return int(_code_file(log).read_text(encoding="utf-8"))
    return None


def _pass_on(process: subprocess.Popen[bytes], file: Path) -> None:
    with contextlib.suppress(FileNotFoundError):
        number = int(file.read_text(encoding="utf-8"))
        file.unlink()
        process.send_signal(number)


def _signal_file(log: Path) -> Path:
    return log.with_suffix(".signal")


def _code_file(log: Path) -> Path:
    return log.with_suffix(".code")
