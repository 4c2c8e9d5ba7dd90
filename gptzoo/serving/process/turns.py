"""`Turns`, a fair lock: the models of one server compute one after the other."""

from __future__ import annotations

import threading
from collections import deque


class Turns:
    """A lock that threads get in the order in which they ask for it.

    Models that compute at the same time would share the same cores, need the memory of all their steps at once, and
    disturb each other's CUDA graphs. With a lock that is not fair, a busy model would keep the others waiting.
    """

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._waiting: deque[threading.Event] = deque()
        self._is_taken = False

    def __enter__(self) -> None:
        with self._guard:
            if not self._is_taken:
                self._is_taken = True
                return
            turn = threading.Event()
            self._waiting.append(turn)
        turn.wait()

    def __exit__(self, *error: object) -> None:
        with self._guard:
            if self._waiting:
                self._waiting.popleft().set()  # the lock passes on without being free
            else:
                self._is_taken = False
