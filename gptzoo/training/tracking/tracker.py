"""The kind `tracker`: where the metrics of a run go beside metrics.jsonl, which is the run's own record."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any, ClassVar

from gptzoo.component import Component, Config
from gptzoo.errors import InputError
from gptzoo.training.run.run_view import RunView, Status


class Tracker(Component):
    """Base of the kind: a place where the metrics of a run are kept or shown.

    It gets every row once, also in a run that is killed and resumed: `start` says what it holds, what it lacks comes
    from the run's own metrics. Raising is no disaster: the tracker is left out from there on, and the run goes on.
    """

    kind = "tracker"
    extra: ClassVar[str] = ""
    """What to install for it, such as `gptzoo[wandb]`; named where a library is missing."""

    class Config(Component.Config):
        required: bool = False
        """Whether the run fails when it does; otherwise that is told once, and the run goes on without it."""

    config: Any

    def __init__(self, config: Config):
        self.config = config

    def start(self, run: RunView) -> int:
        """Begin, or go on with what the same run has left in its folder; returns the last step that it holds, or -1.

        Rows after `run.kept` come again, so that it drops those it has, or returns their last step and is spared them.
        """
        raise TypeError(f"{type(self).__name__} does not implement start")

    def log(self, row: Mapping[str, Any]) -> None:
        """One step's metrics: `step`, and numbers by name; some are lists of numbers, None is one that is not finite.

        Called in the training loop, so it should take far less time than a step.
        """
        raise TypeError(f"{type(self).__name__} does not implement log")

    def flush(self) -> None:
        """Make what was logged survive the death of this process; called before each checkpoint."""

    def finish(self, status: Status) -> None:
        """The run has ended, in whatever way a process can tell: done, paused, interrupted, diverged or failed."""

    @staticmethod
    def scalars(row: Mapping[str, Any]) -> dict[str, float]:
        """The numbers of a row one by one: `name.0`, `name.1`, … for a list, nothing for None. `step` is among them."""
        flat: dict[str, float] = {}
        for name, value in row.items():
            if isinstance(value, list):
                flat |= Tracker.scalars({f"{name}.{index}": item for index, item in enumerate(value)})
            elif value is not None:
                flat[name] = value
        return flat

    def library(self, module: str) -> Any:
        """A module that is imported late. Raises InputError where it is not installed."""
        try:
            return importlib.import_module(module)
        except ImportError as error:
            raise InputError(
                f"tracker {self.config.type!r} needs {error.name or module}: pip install '{self.extra}'"
            ) from None
