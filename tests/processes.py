"""Helpers for tests with several processes: start a process group, and collect exit codes and errors."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import socket
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch.multiprocessing

from gptzoo.errors import GptzooError
from gptzoo.utils.forking import NO_AUTOGRAD

_SECONDS = 100


@dataclass(frozen=True)
class Ended:
    """The end of a process: the exit code of the command line, and the error."""

    code: int
    error: str
    silent: bool  # another process prints the error


def together(n: int, work: Callable[[int], Any], folder: Path) -> list[Ended]:
    """Run `work(rank)` in `n` processes with torchrun's environment variables.

    The processes are forked, so torch is already imported, and the components of a test are registered.
    """
    if torch.cuda.is_available():
        pytest.skip(NO_AUTOGRAD)
    folder.mkdir(parents=True, exist_ok=True)
    port = free_port()
    context: Any = torch.multiprocessing.get_context("fork")
    workers = [context.Process(target=_work, args=(rank, n, port, work, folder), daemon=True) for rank in range(n)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(_SECONDS)
    late = [worker for worker in workers if worker.is_alive()]
    for worker in late:
        worker.kill()
        worker.join()
    errors = [
        (folder / f"error-{rank}").read_text() if (folder / f"error-{rank}").exists() else "" for rank in range(n)
    ]
    assert not late, f"no end within {_SECONDS} s: {errors}"
    for rank in range(n):
        (folder / f"error-{rank}").unlink(missing_ok=True)
    return [
        Ended(worker.exitcode, text.removeprefix("silent: "), text.startswith("silent: "))
        for worker, text in zip(workers, errors, strict=True)
    ]


def torchrun(n: int, spec: Mapping[str, Any], out: Path) -> str:
    """Train in `n` new interpreters, because a process that has used torch.compile cannot be forked.

    Return what they print on stderr.
    """
    file = out.with_suffix(".json")
    file.write_text(json.dumps(spec))
    start = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--nproc-per-node",
        str(n),
        "--master-port",
        str(free_port()),
    ]
    train = ["-m", "gptzoo", "train", str(file), "--out", str(out)]
    result = subprocess.run([*start, *train], capture_output=True, text=True, timeout=4 * _SECONDS)
    assert result.returncode == 0, result.stderr
    return result.stderr


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
    return port


def _work(rank: int, n: int, port: int, work: Callable[[int], Any], folder: Path) -> None:
    torch.set_num_threads(1)
    variables = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": n, "LOCAL_WORLD_SIZE": n, "MASTER_PORT": port}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", **{name: str(value) for name, value in variables.items()}}
    code = 0
    with contextlib.redirect_stderr(io.StringIO()):
        try:
            work(rank)
        except GptzooError as error:
            code = error.exit_code
            (folder / f"error-{rank}").write_text(("silent: " if error.reported_elsewhere else "") + str(error))
        except BaseException:
            code = 1
            (folder / f"error-{rank}").write_text(traceback.format_exc())
    os._exit(code)


@contextlib.contextmanager
def serving(folder: Path, *options: str) -> Iterator[str]:
    """Run `gptzoo serve` in a process of its own. Yield its address."""
    command = [sys.executable, "-m", "gptzoo", "serve", str(folder), "--port", "0", *options]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as server:
        try:
            assert server.stderr is not None
            lines = iter(server.stderr.readline, "")
            yield next(match[0] for line in lines if (match := re.search(r"http://127\.0\.0\.1:\d+", line)))
            assert server.poll() is None
        finally:
            server.terminate()
            server.communicate()


@contextlib.contextmanager
def served(command: list[str], port: str) -> Iterator[None]:
    """Run `gptzoo serve` until the end of the block."""
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stderr is not None
        assert any(f"running on http://127.0.0.1:{port}" in line for line in process.stderr)
        yield
    finally:
        process.terminate()
        process.communicate()
