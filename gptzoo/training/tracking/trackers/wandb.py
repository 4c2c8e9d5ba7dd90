"""The tracker `wandb`, for Weights & Biases."""

from __future__ import annotations

import os
import uuid
from collections.abc import Mapping
from typing import Any, Literal

from gptzoo.checkpoint.records import read_record, read_text_entry
from gptzoo.training.run.run_view import RunView, Status
from gptzoo.training.tracking.tracker import Tracker
from gptzoo.utils.atomic import write_json

# Offline, wandb buffers up to 32 KiB in memory, and a kill loses them. A row takes more than 33 bytes, so fewer steps
# than this are lost.
_MAX_LOST_STEPS = 1000


class WandbTracker(Tracker):
    """Weights & Biases tracker. A resumed run continues the same wandb run, whose id is in `wandb.json`.

    Offline, each process of a resumed run writes a folder of its own to `wandb/` in the run folder, all with one id;
    upload them in order with `wandb sync`. After a kill, the new folder starts with the steps that may be lost.
    """

    name = "wandb"
    extra = "gptzoo[wandb]"

    class Config(Tracker.Config):
        project: str = "gptzoo"
        """Name of the wandb project."""
        entity: str | None = None
        """Name of the wandb user or team. Default: wandb's own default."""
        group: str | None = None
        """Name of a group of runs, which wandb shows together. Default: no group."""
        mode: Literal["online", "offline"] | None = None
        """Upload mode: `online`, or `offline` for local files only. Default: the environment variable WANDB_MODE, else
        online."""

    config: Config

    def __init__(self, config: Config):
        super().__init__(config)
        self.wandb = self.library("wandb")

    def start(self, run: RunView) -> int:
        self.file = run.folder / "wandb.json"
        if self.file.exists():
            record: dict[str, Any] = {"id": read_text_entry(self.file, "id")}
            held = read_record(self.file).get("held")
            record |= {"held": held} if isinstance(held, int) else {}
        else:
            record = {"id": uuid.uuid4().hex[:12], "held": -1}
        self.run_id = record["id"]
        write_json(self.file, {"id": self.run_id})  # without `held`: only `finish` knows the last step that is stored
        config = self.config
        mode = config.mode or os.environ.get("WANDB_MODE") or "online"
        # wandb looks up its server before it reads the settings of a run; those of the process prevent that.
        self.wandb.setup(self.wandb.Settings(mode=mode))
        self.run = self.wandb.init(
            id=self.run_id,
            resume="allow" if mode == "online" else None,
            project=config.project,
            entity=config.entity,
            group=config.group,
            mode=mode,
            name=run.spec.name,
            config=run.spec.resolved(),
            dir=str(run.folder.resolve()),  # absolute: wandb's own process may have another working directory
            reinit="create_new",  # a program may train several runs
            settings=self.wandb.Settings(silent=True, console="off"),
        )
        self.last_step = record.get("held", max(-1, run.resume_step - _MAX_LOST_STEPS))
        if self.run.resumed:  # the server knows its last step
            self.last_step = int(self.run.step) - 1
        return self.last_step

    def log(self, row: Mapping[str, Any]) -> None:
        self.run.log(self.scalars(row), step=row["step"])
        self.last_step = row["step"]

    def finish(self, status: Status) -> None:
        self.run.finish(exit_code=0 if status in ("done", "paused") else 1)
        write_json(self.file, {"id": self.run_id, "held": self.last_step})
