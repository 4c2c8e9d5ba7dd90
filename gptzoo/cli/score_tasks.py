"""`gptzoo score-tasks`: score a trial of an ablation on tasks of lm-evaluation-harness. `gptzoo ablate` starts it."""

from __future__ import annotations

import json
from pathlib import Path

import click

from gptzoo.cli.inputs import read_model
from gptzoo.cli.options import plugin_option


@click.command("score-tasks", hidden=True)
@click.argument("trial", type=click.Path(path_type=Path))
@click.argument("harness")
@click.option("--include-path", type=click.Path(path_type=Path), help="Folder with more task files.")
@plugin_option
def score_tasks(trial: Path, harness: str, include_path: Path | None) -> None:
    """Score the last weights of TRIAL on the tasks of HARNESS, a JSON object, and write TRIAL/scores.json."""
    from gptzoo.ablation.records.scores import write_scores
    from gptzoo.harness.command import require_lm_eval
    from gptzoo.harness.task_scores import lm_eval_version
    from gptzoo.harness.task_scores import score_tasks as score

    require_lm_eval("$.harness of an ablation")
    request = json.loads(harness)
    results = score(
        read_model(trial),
        request["tasks"],
        limit=request["limit"],
        num_fewshot=request["num_fewshot"],
        include_path=include_path,
    )
    write_scores(trial, request, request["tasks"], results, lm_eval_version())
