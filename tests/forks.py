"""Children that begin with all imported, so that one that is killed costs little; and disks that fail in them.

A process of its own forks them: the one that runs the tests has threads, which a fork does not survive.
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
    """Calls functions of a module in children, one at a time. What they say on stderr is in `log`."""

    def __init__(self, log: Path):
        self.log = log
        here = str(Path(__file__).parent)
        code = f"import sys; sys.path.insert(0, {here!r}); import forks; forks.serve()"
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
        """Call `function`, one of this module, in a new child; returns its process id."""
        assert self.server.stdin
        self.log.write_text("")
        self.server.stdin.write(json.dumps([function, str(self.log), os.environ["GPTZOO_CACHE"], arguments]) + "\n")
        self.server.stdin.flush()
        return self._answer()

    def wait(self) -> int:
        """What the child left with: what its function returned, or the negative number of the signal that ended it."""
        return self._answer()

    def call(self, function: str, *arguments: Any) -> int:
        self.start(function, *arguments)
        return self.wait()

    def _answer(self) -> int:
        assert self.server.stdout
        return int(self.server.stdout.readline())


def serve() -> None:
    """A line of JSON in, the child's process id out, then how it ended."""
    import gptzoo

    with tempfile.TemporaryDirectory() as folder:  # torch imports much only when it is first used
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
            _become(function, log, arguments)
        print(child, flush=True)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)


def _become(function: str, log: str, arguments: list[Any]) -> None:
    told = os.open(log, os.O_WRONLY | os.O_APPEND)
    os.dup2(told, 1)
    os.dup2(told, 2)
    code = 1
    try:
        code = globals()[function](*arguments)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


# ---------------------------------------------------------------------- what children do


def train(spec: dict[str, Any], out: str, fault: dict[str, Any] | None = None) -> int:
    """Train, or go on, as the command line does; its exit code. `fault`: what `fail` takes."""
    import gptzoo

    if fault is not None:
        fail(out, **fault)
    try:
        gptzoo.train(spec, out, resume=True, quiet=True)
    except gptzoo.GptzooError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    return 0


def train_with_room_for(n_bytes: int, spec: dict[str, Any], out: str) -> int:
    """Train where a file may grow no larger than so much: to whoever writes it is as if the disk were full."""
    import resource

    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, resource.RLIM_INFINITY))
    return train(spec, out)


def fail(under: str, at: int, code: int | None = None, removing: bool = False) -> None:
    """Die by SIGKILL at the `at`-th operation on files under a folder; or refuse, with the error `code`, that one and
    all that come after it. With `removing` what removes files is refused too, as on a disk that cannot be written."""
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
