"""Scores of a trial on tasks of lm-evaluation-harness, for comparison within an ablation."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from gptzoo.checkpoint.model_folder import LoadedModel
from gptzoo.errors import GptzooError, InputError
from gptzoo.harness.command import require_lm_eval


def check_tasks(tasks: Sequence[str], include_path: Path | None) -> None:
    """Raise InputError if `lm_eval` is not installed, or if it does not know one of the tasks."""
    require_lm_eval("$.harness of an ablation")
    from lm_eval.tasks import TaskManager

    if include_path is not None and not include_path.is_dir():
        raise InputError(f"$.harness.include_path: {include_path}: no such folder")
    known = TaskManager(include_path=include_path).all_tasks
    if unknown := [name for name in tasks if name not in known]:
        raise InputError(
            f"$.harness.tasks: lm_eval has no task {unknown[0]!r}. `lm_eval ls tasks` lists its tasks; "
            "give include_path for a task of your own."
        )


def score_tasks(
    loaded: LoadedModel,
    tasks: Sequence[str],
    *,
    limit: int | None = None,
    num_fewshot: int | None = None,
    include_path: Path | None = None,
) -> dict[str, dict[str, Any]]:
    """Return the metrics of each task and group: the value, and if higher is better (None if the task does not say).

    Raises InputError for an error of the harness.
    """
    from lm_eval import simple_evaluate
    from lm_eval.tasks import TaskManager

    from gptzoo.harness.adapter import HarnessModel

    try:
        evaluated = simple_evaluate(
            model=HarnessModel(loaded),
            tasks=list(tasks),
            limit=limit,
            num_fewshot=num_fewshot,
            task_manager=TaskManager(include_path=include_path),
            bootstrap_iters=0,  # error bars come from the seeds
            log_samples=False,
        )
    except (GptzooError, MemoryError):
        raise
    except Exception as error:
        raise InputError(f"lm_eval: {type(error).__name__}: {str(error).strip() or 'no message'}") from error
    assert evaluated is not None  # on the main process
    return dict(_metrics_by_task(evaluated))


def lm_eval_version() -> str:
    """Return the version of the installed package."""
    return version("lm_eval")


def _metrics_by_task(evaluated: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for task, values in evaluated["results"].items():
        directions = evaluated.get("higher_is_better", {}).get(task) or {}
        metrics = {}
        for key, value in values.items():
            name, _, filtered = key.partition(",")
            is_number = isinstance(value, int | float) and not isinstance(value, bool)
            if filtered and is_number and not name.endswith("_stderr"):
                label = name if filtered == "none" else f"{name} ({filtered})"
                metrics[label] = {"value": float(value), "higher_is_better": directions.get(name)}
        yield task, metrics
