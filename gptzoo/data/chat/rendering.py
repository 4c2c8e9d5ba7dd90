"""Rendering of chat templates in another process, with limits of time, memory and size.

A template is code of a stranger. Jinja's sandbox keeps it from Python's internals, but not from endless loops and huge
texts. The process inherits no files and no secrets of the environment, and cannot write files.
"""

from __future__ import annotations

import atexit
import json
import os
import subprocess
import sys
import threading
from collections.abc import Mapping
from typing import Any

from gptzoo.errors import InputError

MAX_TEMPLATE = 2**20  # characters
MAX_CHARACTERS = 2**22  # of a rendered text
MAX_MEMORY = 2**30  # bytes of address space
MAX_SECONDS = 5  # of computing
_MAX_WAIT = 60  # seconds by the clock, for a machine that is busy, and for a system without the limit above
_KEPT_VARIABLES = ("PATH", "TZ", "LANG", "LC_ALL", "SYSTEMROOT", "LD_LIBRARY_PATH")


def render_template(template: str, variables: Mapping[str, Any]) -> str:
    """Return the text of a chat template. The variables are JSON values.

    Raises InputError if the template fails, or is stopped at a limit.
    """
    if len(template) > MAX_TEMPLATE:
        raise InputError(f"the chat template is longer than {MAX_TEMPLATE} characters")
    limits = {"seconds": MAX_SECONDS, "bytes": MAX_MEMORY, "characters": MAX_CHARACTERS}
    answer = _worker.ask({"template": template, "variables": dict(variables), **limits})
    if "text" not in answer:
        raise InputError(f"the chat template fails: {answer['error']}")
    return answer["text"]


class _Worker:
    """The process that renders, started at the first request and again after it was stopped."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.process: subprocess.Popen[bytes] | None = None
        self.owner = 0  # id of the process that started it: a forked one starts its own

    def ask(self, request: dict[str, Any]) -> dict[str, str]:
        """Return the answer to a request."""
        line = json.dumps(request).encode() + b"\n"
        with self.lock:
            process = self._running()
            assert process.stdin is not None
            assert process.stdout is not None
            timer = threading.Timer(_MAX_WAIT, process.kill)
            timer.start()
            try:
                process.stdin.write(line)
                process.stdin.flush()
                answer = process.stdout.readline()
            except OSError:  # the process ended while it read the request
                answer = b""
            finally:
                timer.cancel()
            if answer.endswith(b"\n"):
                values: dict[str, str] = json.loads(answer)
                return values
            status = self.stop()
            return {
                "error": f"its process was stopped after {MAX_SECONDS} seconds of computing, or because it needs too "
                f"much memory (status {status})"
            }

    def _running(self) -> subprocess.Popen[bytes]:
        """Return the process, started if it does not run."""
        if self.owner != os.getpid():
            self.process = None
        if self.process is None or self.process.poll() is not None:
            environment = {name: os.environ[name] for name in _KEPT_VARIABLES if name in os.environ}
            environment["PYTHONPATH"] = os.pathsep.join(map(os.path.abspath, sys.path))
            self.process = subprocess.Popen(
                [sys.executable, "-P", "-m", "gptzoo.data.chat.worker"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env=environment,
            )
            self.owner = os.getpid()
        return self.process

    def stop(self) -> int | None:
        """End the process and return its status, unless it belongs to the process that this one was forked from."""
        process, self.process = self.process, None
        if process is None or self.owner != os.getpid():
            return None
        process.kill()
        process.communicate()
        return process.returncode


_worker = _Worker()
atexit.register(_worker.stop)
