"""Weights & Biases."""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Mapping
from typing import Any, Literal

from gptzoo.component import Config
from gptzoo.training.run.run_view import RunView, Status
from gptzoo.training.tracking.tracker import Tracker
from gptzoo.utils.atomic import write_json

# Offline, wandb keeps what it was given in memory until a block of 32 KiB is full, and a kill loses that. A row takes
# more than 33 bytes, so these are more steps than can have been lost.
_LOST_AT_MOST = 1000


class WandbTracker(Tracker):
    """A run of Weights & Biases, the same one when the run goes on; its id is in `wandb.json` of the run folder.

    Offline it is written to `wandb/` of the run folder: a folder for each process of a run that was resumed, all of one
    id, for `wandb sync` in their order. One that follows a kill begins with the steps that the kill may have cost.
    """

    name = "wandb"
    extra = "gptzoo[wandb]"

    class Config(Tracker.Config):
        project: str = "gptzoo"
        """That the run belongs to."""
        entity: str | None = None
        """User or team; left out, wandb's default."""
        group: str | None = None
        """Shows runs together."""
        mode: Literal["online", "offline"] | None = None
        """Left out, what the variable WANDB_MODE says, else online."""

    def __init__(self, config: Config):
        super().__init__(config)
        self.wandb = self.library("wandb")

    def start(self, run: RunView) -> int:
        file = run.folder / "wandb.json"
        note: dict[str, Any] = (
            json.loads(file.read_text(encoding="utf-8")) if file.exists() else {"id": uuid.uuid4().hex[:12], "held": -1}
        )
        self.file, self.note = file, {"id": note["id"]}
        write_json(file, self.note)  # what it holds is known again when it has finished
        config = self.config
        mode = config.mode or os.environ.get("WANDB_MODE") or "online"
        self.run = self.wandb.init(
            id=note["id"],
            resume="allow" if mode == "online" else None,
            project=config.project,
            entity=config.entity,
            group=config.group,
            mode=mode,
            name=run.spec.name,
            config=run.spec.resolved(),
            dir=str(run.folder.resolve()),  # the process that writes may have another working directory
            reinit="create_new",  # a program may train several runs
            settings=self.wandb.Settings(silent=True, console="off"),
        )
        self.held = note.get("held", max(-1, run.kept - _LOST_AT_MOST))
        if self.run.resumed:  # the server knows better
            self.held = int(self.run.step) - 1
        return self.held

    def log(self, row: Mapping[str, Any]) -> None:
        self.run.log(self.scalars(row), step=row["step"])
        self.held = row["step"]

    def finish(self, status: Status) -> None:
        self.run.finish(exit_code=0 if status in ("done", "paused") else 1)
        write_json(self.file, {**self.note, "held": self.held})
