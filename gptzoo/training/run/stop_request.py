"""Requests to stop by signal.

The first signal ends the run after the current step and a checkpoint, the second one at once.
"""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType

from gptzoo.training.distributed.ranks import Ranks

# Cluster schedulers announce the time limit with SIGUSR1 or SIGUSR2.
_SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGUSR1", "SIGUSR2") if hasattr(signal, name))


class StopRequest:
    """A flag that the first signal sets; `signal_name` is its name."""

    signal_name: str | None = None

    def __bool__(self) -> bool:
        return self.signal_name is not None

    def all_reduce_or_raise(self, ranks: Ranks, error: Exception | None) -> str | None:
        """Return the signal that any rank has received, or None. Raise on all ranks if any rank has an `error`.

        One all-reduce serves both.
        """
        own_number = 0 if self.signal_name is None else signal.Signals[self.signal_name].value
        number = ranks.raise_on_all_ranks(error, own_number)
        return signal.Signals(number).name if number else None


@contextlib.contextmanager
def listen_for_stop() -> Iterator[StopRequest]:
    """Turn SIGINT, SIGTERM, SIGUSR1 and SIGUSR2 into a StopRequest.

    The handler only sets a flag, because a signal handler must not write files.
    """
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request  # Python delivers signals to the main thread only
        return

    def handle(number: int, frame: FrameType | None) -> None:
        request.signal_name = signal.Signals(number).name
        signal.signal(number, before[signal.Signals(number)])

    before = {number: signal.getsignal(number) for number in _SIGNALS}
    for number in _SIGNALS:
        signal.signal(number, handle)
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
