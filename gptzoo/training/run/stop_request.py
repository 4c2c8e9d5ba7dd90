"""Asked to stop: finish the step, save, leave; asked twice: leave at once."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType

from gptzoo.training.distributed.ranks import Ranks

# Schedulers of clusters announce that time is up with one of the last two.
_SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGUSR1", "SIGUSR2") if hasattr(signal, name))


class StopRequest:
    """Set by the first signal; `signal_name` says which."""

    signal_name: str | None = None

    def __bool__(self) -> bool:
        return self.signal_name is not None

    def agreed(self, ranks: Ranks, action: Callable[[], None]) -> str | None:
        """Do `action`; the name of the signal that any of the processes of a run has had. What fails in one raises in
        all."""
        own = 0 if self.signal_name is None else signal.Signals[self.signal_name].value
        _, number = ranks.everywhere_and_greatest(action, own)
        return signal.Signals(number).name if number else None


@contextlib.contextmanager
def listen_for_stop() -> Iterator[StopRequest]:
    """Turn SIGINT, SIGTERM, SIGUSR1 and SIGUSR2 into a request.

    The handler only sets a flag: nothing may be written inside one.
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
