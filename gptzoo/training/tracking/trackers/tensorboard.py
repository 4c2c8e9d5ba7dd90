"""TensorBoard, by torch's own writer of event files."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gptzoo.training.run.run_view import RunView, Status
from gptzoo.training.tracking.tracker import Tracker


class TensorBoardTracker(Tracker):
    """Event files in `tensorboard/` of the run folder; `tensorboard --logdir runs` shows all runs of a folder."""

    name = "tensorboard"
    extra = "gptzoo[tensorboard]"

    def __init__(self, config: Tracker.Config):
        super().__init__(config)
        self.library("tensorboard")
        self.writers = self.library("torch.utils.tensorboard")

    def start(self, run: RunView) -> int:
        folder = run.folder / "tensorboard"
        held = run.kept if folder.is_dir() else -1
        _wait_for_a_later_name(folder)
        # What an earlier process wrote after the checkpoint is hidden by the step from which on it is made again.
        self.writer = self.writers.SummaryWriter(str(folder), purge_step=held + 1)
        return held

    def log(self, row: Mapping[str, Any]) -> None:
        for name, value in self.scalars(row).items():
            if name != "step":
                self.writer.add_scalar(name, value, row["step"])

    def flush(self) -> None:
        self.writer.flush()

    def finish(self, status: Status) -> None:
        self.writer.close()


def _wait_for_a_later_name(folder: Path) -> None:
    """Files are read in the order of their names, which begin with the second in which each was made; what follows it
    does not tell the order."""
    made = [int(file.name.split(".")[3]) for file in folder.glob("events.out.tfevents.*")]
    time.sleep(min(max(max(made, default=0) + 1 - time.time(), 0), 1))
