"""The tracker `tensorboard`, with torch's own writer of event files."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gptzoo.training.run.run_view import RunView, Status
from gptzoo.training.tracking.tracker import Tracker


class TensorBoardTracker(Tracker):
    """TensorBoard tracker: event files in `tensorboard/` of the run folder, for `tensorboard --logdir runs`."""

    name = "tensorboard"
    extra = "gptzoo[tensorboard]"

    def __init__(self, config: Tracker.Config):
        super().__init__(config)
        self.library("tensorboard")
        self.module = self.library("torch.utils.tensorboard")

    def start(self, run: RunView) -> int:
        folder = run.folder / "tensorboard"
        last_step = run.resume_step if folder.is_dir() else -1
        _wait_for_new_file_name(folder)
        # purge_step hides the steps that an earlier process wrote after the checkpoint.
        self.writer = self.module.SummaryWriter(str(folder), purge_step=last_step + 1)
        return last_step

    def log(self, row: Mapping[str, Any]) -> None:
        for name, value in self.scalars(row).items():
            if name != "step":
                self.writer.add_scalar(name, value, row["step"])

    def flush(self) -> None:
        self.writer.flush()

    def finish(self, status: Status) -> None:
        self.writer.close()


def _wait_for_new_file_name(folder: Path) -> None:
    """Wait until a new event file sorts after the others, because TensorBoard reads them in the order of their names.

    A name begins with the second in which the file was created, and the rest of it does not tell the order.
    """
    seconds = [int(file.name.split(".")[3]) for file in folder.glob("events.out.tfevents.*")]
    time.sleep(min(max(max(seconds, default=0) + 1 - time.time(), 0), 1))
