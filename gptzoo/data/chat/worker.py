"""The process that renders chat templates. It reads requests from stdin and writes answers to stdout, as JSON lines."""

from __future__ import annotations

import contextlib
import json
import sys
from typing import Any

from jinja2.exceptions import TemplateSyntaxError

from gptzoo.data.chat.environment import OutputTooLong, render


def main() -> None:
    """Answer requests until stdin ends."""
    for line in sys.stdin.buffer:
        sys.stdout.buffer.write(json.dumps(_answer(line)).encode() + b"\n")
        sys.stdout.buffer.flush()


def _answer(line: bytes) -> dict[str, str]:
    """Return the text of a template, or the reason why it has none."""
    limit = 0
    try:
        request: dict[str, Any] = json.loads(line)
        limit = request["characters"]
        _limit_resources(request["seconds"], request["bytes"])
        return {"text": render(request["template"], request["variables"], limit)}
    except TemplateSyntaxError as error:
        return {"error": f"line {error.lineno}: {error.message}"}
    except OutputTooLong:
        return {"error": f"the text is longer than {limit} characters"}
    except MemoryError:
        return {"error": "it needs too much memory"}
    except RecursionError:
        return {"error": "it is nested too deeply"}
    except Exception as error:  # a template may raise anything
        return {"error": str(error)[:2000] or type(error).__name__}


def _limit_resources(seconds: int, size: int) -> None:
    """Let the system end this process after some seconds of computing, and refuse memory and files to it."""
    try:
        import resource
    except ImportError:  # Windows has the time limit of the parent process only
        return
    used = resource.getrusage(resource.RUSAGE_SELF)
    limits = {
        resource.RLIMIT_CPU: int(used.ru_utime + used.ru_stime) + 1 + seconds,
        resource.RLIMIT_AS: size,
        resource.RLIMIT_FSIZE: 0,
        resource.RLIMIT_CORE: 0,
    }
    for kind, value in limits.items():
        with contextlib.suppress(ValueError, OSError):  # a system without this limit
            resource.setrlimit(kind, (value, resource.getrlimit(kind)[1]))


if __name__ == "__main__":
    main()
