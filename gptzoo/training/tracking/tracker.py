"""The kind `tracker`: components that log the metrics of a run to another file or service."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from types import ModuleType
from typing import Any, ClassVar

from gptzoo.component import Component
from gptzoo.errors import InputError
from gptzoo.training.run.run_view import RunView, Status


class Tracker(Component):
    """Base class of trackers, which log the metrics of a run to a file or service.

    A tracker gets every row once, also if the run is killed and resumed: `start` returns the last step that it has,
    and gptzoo logs the later rows from metrics.jsonl. If it raises, it is not called again, and the run continues.
    """

    kind = "tracker"
    extra: ClassVar[str] = ""
    """What to install for its library, such as `gptzoo[wandb]`. Used in the error message for a missing library."""

    class Config(Component.Config):
        required: bool = False
        """End the run if the tracker fails. Default: report the failure once and continue without the tracker."""

    config: Config

    def __init__(self, config: Config):
        self.config = config

    def start(self, run: RunView) -> int:
        """Start a log, or continue the log of a resumed run. Return the last step that the log holds, or -1.

        Rows after `run.resume_step` are logged again. So drop them and return a step that is not later, or return
        their last step to skip them.
        """
        raise TypeError(f"{type(self).__name__} does not implement start")

    def log(self, row: Mapping[str, Any]) -> None:
        """Log the metrics of one step: `step`, and numbers by name.

        A value may also be a list of numbers, or None for a number that is not finite. The training loop calls this,
        so it should be much faster than a step.
        """
        raise TypeError(f"{type(self).__name__} does not implement log")

    def flush(self) -> None:
        """Store the logged rows so that they survive a kill of this process. Called before each checkpoint."""

    def finish(self, status: Status) -> None:
        """Finish at the end of the run: done, paused, interrupted, diverged or failed."""

    @staticmethod
    def scalars(row: Mapping[str, Any]) -> dict[str, float]:
        """Flatten a row: lists become `name.0`, `name.1`, …, and None is left out. `step` is kept."""
        flat: dict[str, float] = {}
        for name, value in row.items():
            if isinstance(value, list):
                flat |= Tracker.scalars({f"{name}.{index}": item for index, item in enumerate(value)})
            elif value is not None:
                flat[name] = value
        return flat

    def library(self, module: str) -> ModuleType:
        """Import a module when the tracker is created. Raises InputError if it is not installed."""
        try:
            return importlib.import_module(module)
        except ImportError as error:
            raise InputError(
                f"tracker {self.config.type!r} needs {error.name or module}: pip install '{self.extra}'"
            ) from None
