"""A fork server for tests that kill processes, and disk faults in the forked processes.

Everything is imported before a fork, so a killed process costs little time. The server is a process of its own, because
the process of the tests has threads, which a fork does not copy.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import traceback
from pathlib import Path
from types import TracebackType
from typing import Any

_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT
_NEEDING_ROOM = ("open", "os.mkdir", "os.rename", "fsync", "write")
_REMOVING = ("os.remove", "os.rmdir")


class Forks:
    """Calls functions of this module in forked children, one at a time. Their stdout and stderr are in `log`."""

    def __init__(self, log: Path):
        self.log = log
        folder = str(Path(__file__).parent)
        code = f"import sys; sys.path.insert(0, {folder!r}); import forks; forks.serve()"
        self.server = subprocess.Popen(
            [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def __enter__(self) -> Forks:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        assert self.server.stdin
        self.server.stdin.close()
        self.server.wait()

    def start(self, function: str, *arguments: Any) -> int:
        """Call a function of this module in a new child and return the process id."""
        assert self.server.stdin
        self.log.write_text("")
        self.server.stdin.write(json.dumps([function, str(self.log), os.environ["GPTZOO_CACHE"], arguments]) + "\n")
        self.server.stdin.flush()
        return self._read_number()

    def wait(self) -> int:
        """Return the result of the child's function, or minus the number of the signal that killed the child."""
        return self._read_number()

    def call(self, function: str, *arguments: Any) -> int:
        self.start(function, *arguments)
        return self.wait()

    def _read_number(self) -> int:
        assert self.server.stdout
        return int(self.server.stdout.readline())


def serve() -> None:
    """Read a line of JSON per call; print the process id of the child, then its exit code."""
    import gptzoo

    with tempfile.TemporaryDirectory() as folder:  # a first run, because torch imports many modules on first use
        os.environ["GPTZOO_CACHE"] = f"{folder}/cache"
        Path(folder, "text").write_text("a b c d e f " * 50)
        model = {"context_length": 8, "d_model": 8, "n_layers": 1, "n_heads": 1}
        corpus = {"type": "text", "path": f"{folder}/text"}
        spec = {"model": model, "corpus": corpus, "steps": 1, "batch_size": 2, "device": "cpu"}
        gptzoo.train(spec, f"{folder}/run", quiet=True)
    for line in sys.stdin:
        function, log, cache, arguments = json.loads(line)
        os.environ["GPTZOO_CACHE"] = cache
        child = os.fork()
        if child == 0:
            _run_child(function, log, arguments)
        print(child, flush=True)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)


def _run_child(function: str, log: str, arguments: list[Any]) -> None:
    descriptor = os.open(log, os.O_WRONLY | os.O_APPEND)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    code = 1
    try:
        code = globals()[function](*arguments)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


# ---------------------------------------------------------------------- functions for children


def train(spec: dict[str, Any], out: str, fault: dict[str, Any] | None = None) -> int:
    """Train or resume like the command line and return its exit code. `fault` has the arguments of `inject_fault`."""
    import gptzoo

    if fault is not None:
        inject_fault(out, **fault)
    try:
        gptzoo.train(spec, out, resume=True, quiet=True)
    except gptzoo.GptzooError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    return 0


def train_with_room_for(n_bytes: int, spec: dict[str, Any], out: str) -> int:
    """Train with a limit on the size of files, which looks like a full disk to the process."""
    import resource

    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, resource.RLIM_INFINITY))
    return train(spec, out)


def inject_fault(under: str, at: int, code: int | None = None, removing: bool = False) -> None:
    """Inject a fault at the `at`-th operation on files under a folder.

    Without a `code` the process kills itself there. With one, this operation and all later ones raise OSError with that
    code; with `removing` also operations that remove files, as on a read-only disk.
    """
    count = 0

    def operation(name: str, path: Any) -> None:
        nonlocal count
        count += 1
        if code is None and count == at:
            os.kill(os.getpid(), signal.SIGKILL)
        if code is not None and count >= at and (name in _NEEDING_ROOM or removing):
            raise OSError(code, os.strerror(code), str(path))

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event not in _NEEDING_ROOM + _REMOVING:
            return
        path = os.fsdecode(arguments[0]) if isinstance(arguments[0], str | bytes | os.PathLike) else ""
        inside = path.startswith(under) or (event in _REMOVING and not os.path.isabs(path))
        if inside and not (event == "open" and not arguments[2] & _WRITES):
            operation(event, path)

    def counted(name: str, original: Any) -> Any:
        def call(descriptor: int, *rest: Any) -> Any:
            if descriptor > 2:
                operation(name, f"descriptor {descriptor}")
            return original(descriptor, *rest)

        return call

    os.fsync, os.write = counted("fsync", os.fsync), counted("write", os.write)
    sys.addaudithook(hook)
