"""A model or a run as `push` publishes it: the folder of its weights, its spec, and the records of its training."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from gptzoo.checkpoint.checkpoints import list_checkpoints
from gptzoo.checkpoint.model_folder import find_model_folder
from gptzoo.checkpoint.records import read_record
from gptzoo.errors import FolderError
from gptzoo.model.accounting import count_parameters
from gptzoo.model.build import build_on_meta
from gptzoo.publishing import layout
from gptzoo.spec.files import load_model_spec
from gptzoo.spec.model import ModelSpec
from gptzoo.training.run.metrics_file import read_complete_rows


@dataclass(frozen=True)
class PublishedRun:
    """The model in `folder`, and the run folder it comes from, if there is one."""

    folder: Path  # a model folder or a checkpoint
    run: Path | None

    @classmethod
    def find(cls, path: Path, *, best: bool = False, step: int | None = None) -> PublishedRun:
        """Find the model of a run, a checkpoint or a model folder. Raises FolderError."""
        folder = find_model_folder(path, best=best, step=step)
        if not (folder / layout.WEIGHTS).is_file():
            raise FolderError(f"{folder}: has no {layout.WEIGHTS}")
        return cls.of(folder)

    @classmethod
    def of(cls, folder: Path) -> PublishedRun:
        """Return the model of a model folder or checkpoint, with the run that it belongs to."""
        folder = folder.resolve()
        run = folder.parent.parent if folder.parent.name == "checkpoints" else folder
        return cls(folder, run if (run / layout.RUN_SPEC).is_file() else None)

    @cached_property
    def spec(self) -> ModelSpec:
        return load_model_spec(self.folder / layout.SPEC)

    @cached_property
    def run_json(self) -> Mapping[str, Any]:
        """The contents of run.json, or {} without a run."""
        return {} if self.run is None else read_record(self.run / layout.RUN_SPEC)

    @cached_property
    def n_parameters(self) -> int:
        return count_parameters(build_on_meta(self.spec)).total

    @property
    def step(self) -> int | None:
        """The step of the checkpoint, or the last one of a pulled model, or None without a run."""
        if self.run is None:
            return None
        steps = {path.name: step for step, path in list_checkpoints(self.run / "checkpoints").items()}
        return steps.get(self.folder.name, self._rows[-1]["step"] if self._rows else None)

    @cached_property
    def _rows(self) -> list[dict[str, Any]]:
        file = None if self.run is None else self.run / "metrics.jsonl"
        return [] if file is None or not file.is_file() else read_complete_rows(file)

    @property
    def metrics(self) -> Mapping[str, Any]:
        """The evaluation at the step of the checkpoint or, if there was none, the newest one before it."""
        step = self.step
        rows = (row for row in reversed(self._rows) if step is None or row.get("step", 0) <= step)
        return next((row for row in rows if row.get("val/loss") is not None), {})

    @cached_property
    def environment(self) -> Mapping[str, Any]:
        """The contents of environment.json, or {}."""
        file = None if self.run is None else self.run / layout.ENVIRONMENT
        return {} if file is None or not file.is_file() else read_record(file)
