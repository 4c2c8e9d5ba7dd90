"""MLflow, by its client: no global state, so that a program may train several runs."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from typing import Any

from gptzoo.component import Config
from gptzoo.training.run.run_view import RunView, Status
from gptzoo.training.tracking.tracker import Tracker
from gptzoo.utils.atomic import write_json

_AT_ONCE = 1000  # metrics; a server takes no more in one request
_SECONDS = 5.0  # between two requests: a database takes longer for one than a small model for a step
_IN_EACH_ROW = ("tokens", "val/loss")  # of every step, and of step 0
_PARAMETERS_AT_ONCE = 100
_LONGEST = 6000  # characters of a parameter
_ENDED: dict[Status, str] = {
    "done": "FINISHED",
    "paused": "KILLED",  # MLflow has no word for it, and a run that goes on is set to running again
    "interrupted": "KILLED",
    "diverged": "FAILED",
    "failed": "FAILED",
}


class MlflowTracker(Tracker):
    """A run of MLflow, the same one when the run goes on; its id is in `mlflow.json` of the run folder."""

    name = "mlflow"
    extra = "gptzoo[mlflow]"

    class Config(Tracker.Config):
        uri: str | None = None
        """Of the tracking server, or of a database, `sqlite:///mlflow.db`; left out, what MLflow itself would take."""
        experiment: str = "gptzoo"
        """That the run belongs to; made where there is none."""

    def __init__(self, config: Config):
        super().__init__(config)
        self.entities = self.library("mlflow.entities")
        self.client = self.library("mlflow.tracking").MlflowClient(tracking_uri=config.uri, registry_uri="")
        self.waiting: list[Any] = []
        self.sent = time.monotonic()

    def start(self, run: RunView) -> int:
        file = run.folder / "mlflow.json"
        if file.exists():
            self.run_id = json.loads(file.read_text(encoding="utf-8"))["run_id"]
            self.client.update_run(self.run_id, status="RUNNING")
            held = (self.client.get_metric_history(self.run_id, name) for name in _IN_EACH_ROW)
            return max((point.step for points in held for point in points), default=-1)
        self.run_id = self.client.create_run(self._experiment(), run_name=run.spec.name).info.run_id
        parameters = [self.entities.Param(name, value) for name, value in _flat("", run.spec.resolved())]
        for first in range(0, len(parameters), _PARAMETERS_AT_ONCE):
            self.client.log_batch(self.run_id, params=parameters[first : first + _PARAMETERS_AT_ONCE])
        write_json(file, {"run_id": self.run_id})
        return -1

    def log(self, row: Mapping[str, Any]) -> None:
        now = int(time.time() * 1000)
        numbers = self.scalars(row).items()
        new = [self.entities.Metric(name, value, now, row["step"]) for name, value in numbers if name != "step"]
        if len(self.waiting) + len(new) > _AT_ONCE or time.monotonic() - self.sent >= _SECONDS:
            self.flush()
        self.waiting += new

    def flush(self) -> None:
        for first in range(0, len(self.waiting), _AT_ONCE):
            self.client.log_batch(self.run_id, metrics=self.waiting[first : first + _AT_ONCE])
        self.waiting.clear()
        self.sent = time.monotonic()

    def finish(self, status: Status) -> None:
        self.flush()
        self.client.set_terminated(self.run_id, _ENDED[status])

    def _experiment(self) -> str:
        known = self.client.get_experiment_by_name(self.config.experiment)
        return str(self.client.create_experiment(self.config.experiment) if known is None else known.experiment_id)


def _flat(prefix: str, value: Any) -> Iterator[tuple[str, str]]:
    """The fields of a spec one by one, as `model.attention.window`; what is null is left out."""
    if isinstance(value, Mapping):
        for name, inner in value.items():
            yield from _flat(f"{prefix}.{name}" if prefix else name, inner)
    elif value is not None:
        yield prefix, (value if isinstance(value, str) else json.dumps(value))[:_LONGEST]
