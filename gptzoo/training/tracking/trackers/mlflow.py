"""The tracker `mlflow`. It uses MLflow's client, which has no global state, so a program can train several runs."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from typing import Any

from gptzoo.checkpoint.records import read_text_entry
from gptzoo.training.run.run_view import RunView, Status
from gptzoo.training.tracking.tracker import Tracker
from gptzoo.utils.atomic import write_json

_MAX_METRICS_PER_REQUEST = 1000  # a limit of MLflow's servers
_MAX_PARAMETERS_PER_REQUEST = 100
_MAX_PARAMETER_LENGTH = 6000  # characters
_SECONDS_BETWEEN_REQUESTS = 5.0  # for a database, a request can take longer than a step of a small model
_METRICS_IN_ALL_ROWS = ("tokens", "val/loss")  # the first in every step, the second in step 0
_STATUS: dict[Status, str] = {
    "done": "FINISHED",
    "paused": "KILLED",  # MLflow has no status for a pause; a resumed run is set to RUNNING again
    "interrupted": "KILLED",
    "diverged": "FAILED",
    "failed": "FAILED",
}


class MlflowTracker(Tracker):
    """MLflow tracker. A resumed run continues the same MLflow run, whose id is in `mlflow.json`."""

    name = "mlflow"
    extra = "gptzoo[mlflow]"

    class Config(Tracker.Config):
        uri: str | None = None
        """URI of a tracking server or a database, such as `sqlite:///mlflow.db`. Default: MLflow's own default."""
        experiment: str = "gptzoo"
        """Name of the MLflow experiment. It is created if it does not exist."""

    config: Config

    def __init__(self, config: Config):
        super().__init__(config)
        self.entities = self.library("mlflow.entities")
        self.client = self.library("mlflow.tracking").MlflowClient(tracking_uri=config.uri, registry_uri="")
        self.buffer: list[Any] = []
        self.last_sent = time.monotonic()

    def start(self, run: RunView) -> int:
        file = run.folder / "mlflow.json"
        if file.exists():
            self.run_id = read_text_entry(file, "run_id")
            self.client.update_run(self.run_id, status="RUNNING")
            histories = (self.client.get_metric_history(self.run_id, name) for name in _METRICS_IN_ALL_ROWS)
            return max((point.step for points in histories for point in points), default=-1)
        self.run_id = self.client.create_run(self._experiment_id(), run_name=run.spec.name).info.run_id
        parameters = [self.entities.Param(name, value) for name, value in _flatten("", run.spec.resolved())]
        for first in range(0, len(parameters), _MAX_PARAMETERS_PER_REQUEST):
            self.client.log_batch(self.run_id, params=parameters[first : first + _MAX_PARAMETERS_PER_REQUEST])
        write_json(file, {"run_id": self.run_id})
        return -1

    def log(self, row: Mapping[str, Any]) -> None:
        now = int(time.time() * 1000)
        numbers = self.scalars(row).items()
        new = [self.entities.Metric(name, value, now, row["step"]) for name, value in numbers if name != "step"]
        is_full = len(self.buffer) + len(new) > _MAX_METRICS_PER_REQUEST
        if is_full or time.monotonic() - self.last_sent >= _SECONDS_BETWEEN_REQUESTS:
            self.flush()
        self.buffer += new

    def flush(self) -> None:
        for first in range(0, len(self.buffer), _MAX_METRICS_PER_REQUEST):
            self.client.log_batch(self.run_id, metrics=self.buffer[first : first + _MAX_METRICS_PER_REQUEST])
        self.buffer.clear()
        self.last_sent = time.monotonic()

    def finish(self, status: Status) -> None:
        self.flush()
        self.client.set_terminated(self.run_id, _STATUS[status])

    def _experiment_id(self) -> str:
        experiment = self.client.get_experiment_by_name(self.config.experiment)
        if experiment is None:
            return str(self.client.create_experiment(self.config.experiment))
        return str(experiment.experiment_id)


def _flatten(prefix: str, value: object) -> Iterator[tuple[str, str]]:
    """Yield the fields of a spec as `model.attention.window` and their values; null is left out."""
    if isinstance(value, Mapping):
        for name, inner in value.items():
            yield from _flatten(f"{prefix}.{name}" if prefix else name, inner)
    elif value is not None:
        yield prefix, (value if isinstance(value, str) else json.dumps(value))[:_MAX_PARAMETER_LENGTH]
