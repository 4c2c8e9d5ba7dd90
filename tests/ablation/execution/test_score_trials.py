"""Each finished trial is scored once on each task, and a failure to score it is recorded with its reason.

The executor of these tests runs jobs at once, in this process, with scores that depend on the task alone.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

import gptzoo
from gptzoo.ablation.execution.executor import Executor, Job
from gptzoo.ablation.execution.score_trials import TrialScorer
from gptzoo.ablation.execution.trial_folder import TrialFolder
from gptzoo.ablation.records.scores import read_scores, write_scores
from gptzoo.ablation.selection.trial_results import read_trial_outcome, with_scores
from gptzoo.errors import InputError
from gptzoo.spec.ablation import AblationSpec, HarnessSpec

SPEC: dict[str, Any] = {
    "model": {"context_length": 8, "d_model": 8, "n_layers": 1, "n_heads": 1},
    "corpus": {"type": "text", "path": "page.txt"},
    "tokenizer": "byte",
    "batch_size": 2,
    "steps": 1,
    "device": "cpu",
}


class Immediate(Executor[int]):
    """An executor whose jobs end when they start, with the exit codes that are given for the first ones, then 0."""

    name = "immediate"

    def __init__(self, codes: Sequence[int] = ()):
        super().__init__(Executor.Config(type="immediate"))
        self.codes = list(codes)
        self.scored: list[tuple[str, list[str]]] = []

    @property
    def free_slots(self) -> int:
        return 1

    def start(self, job: Job) -> int:
        command, trial, request = job.arguments[:3]
        assert command == "score-tasks"
        harness = json.loads(request)
        self.scored.append((Path(trial).name, harness["tasks"]))
        code = self.codes.pop(0) if self.codes else 0
        if code:
            job.log.write_text(f"loading\nError: {trial}/model.json: no such task\n")
        else:
            results = {task: {"acc": {"value": len(task) / 10, "higher_is_better": True}} for task in harness["tasks"]}
            write_scores(Path(trial), harness, harness["tasks"], results, "0.4.13")
        return code

    def poll(self, handle: int) -> int | None:
        return handle

    def stop(self, handle: int, *, kill: bool = False) -> None:
        pass

    def wait(self, handles: Sequence[int], seconds: float) -> None:
        pass


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a finished run."""
    folder = tmp_path_factory.mktemp("scored")
    (folder / "page.txt").write_text("the quick brown fox jumps over the lazy dog. " * 9)
    spec = json.loads(json.dumps(SPEC).replace("page.txt", str(folder / "page.txt")))
    trial = TrialFolder(folder / "run")
    trial.create(gptzoo.load_run_spec(spec))
    gptzoo.train(spec, trial.path, resume=True)
    return trial.path


@pytest.fixture
def trial(trained: Path) -> TrialFolder:
    for name in ("scores.json", "scores.log"):
        (trained / name).unlink(missing_ok=True)
    return TrialFolder(trained)


def score(trial: TrialFolder, codes: Sequence[int] = (), *, retry_failed: bool = False, **harness: Any) -> Immediate:
    executor = Immediate(codes)
    spec = HarnessSpec.model_validate({"tasks": ["a", "bb"]} | harness)
    TrialScorer([trial], spec, None, executor, retries=1).run(retry_failed=retry_failed)
    return executor


def settings(**harness: Any) -> dict[str, Any]:
    return HarnessSpec.model_validate({"tasks": ["a", "bb"]} | harness).model_dump(mode="json")


def test_a_trial_is_scored_once_and_later_only_on_new_tasks(trial: TrialFolder) -> None:
    assert score(trial).scored == [("run", ["a", "bb"])]
    assert score(trial).scored == []
    assert score(trial, tasks=["ccc", "bb"]).scored == [("run", ["ccc"])]
    scores = read_scores(trial.path, settings())
    assert {task: metrics["acc"].value for task, metrics in scores.results.items()} == {"a": 0.1, "bb": 0.2, "ccc": 0.3}
    outcome = with_scores(read_trial_outcome(trial, "v", 1), trial, settings(tasks=["ccc", "bb"]))
    assert list(outcome.scores) == ["ccc", "bb"]  # those of the spec


@pytest.mark.parametrize("change", [{"limit": 3}, {"num_fewshot": 2}, {"include_path": "tasks"}])
def test_other_settings_score_a_trial_again(trial: TrialFolder, change: dict[str, Any]) -> None:
    score(trial)
    assert score(trial, **change).scored == [("run", ["a", "bb"])]


def test_a_damaged_file_is_measured_again(trial: TrialFolder) -> None:
    score(trial)
    file = trial.path / "scores.json"
    file.write_text(file.read_text().replace("0.2", "0.9"))
    assert read_scores(trial.path, settings()).results == {}
    assert score(trial).scored == [("run", ["a", "bb"])]
    assert read_scores(trial.path, settings()).results["bb"]["acc"].value == 0.2


def test_a_crash_is_retried_and_then_recorded(trial: TrialFolder) -> None:
    assert len(score(trial, [1]).scored) == 2
    assert read_scores(trial.path, settings()).missing(["a", "bb"]) == []
    (trial.path / "scores.json").unlink()
    assert len(score(trial, [1, -9]).scored) == 2
    outcome = with_scores(read_trial_outcome(trial, "v", 1), trial, settings())
    assert (outcome.state, outcome.unscored, outcome.scores) == ("done", "killed by SIGKILL", {})
    assert score(trial).scored == []
    assert score(trial, retry_failed=True).scored == [("run", ["a", "bb"])]
    assert with_scores(read_trial_outcome(trial, "v", 1), trial, settings()).unscored == ""


def test_an_error_of_the_input_is_not_retried_and_keeps_other_scores(trial: TrialFolder) -> None:
    score(trial, tasks=["a"])
    assert score(trial, [InputError.exit_code]).scored == [("run", ["bb"])]
    outcome = with_scores(read_trial_outcome(trial, "v", 1), trial, settings())
    assert outcome.unscored == "Error: model.json: no such task"
    assert list(outcome.scores) == ["a"]
    assert score(trial, tasks=["a"]).scored == []
    assert with_scores(read_trial_outcome(trial, "v", 1), trial, settings(tasks=["a"])).unscored == ""


def test_a_trial_that_another_process_scores_is_left_alone(trial: TrialFolder) -> None:
    score(trial)
    before = (trial.path / "scores.json").stat().st_mtime_ns
    with trial.acquire() as acquired:
        assert acquired
        assert score(trial).scored == []
    assert (trial.path / "scores.json").stat().st_mtime_ns == before


def test_a_missing_package_is_an_error_before_anything_trains(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "lm_eval", None)  # as if it were not installed
    ablation = {"base": SPEC, "axes": {"model.positional": ["rope", "none"]}, "harness": {"tasks": ["hellaswag"]}}
    with pytest.raises(InputError, match=r"needs the package lm_eval: pip install 'gptzoo\[lm-eval\]'"):
        gptzoo.ablate(AblationSpec.model_validate(ablation), tmp_path / "out")
    assert not (tmp_path / "out").exists()
    with pytest.raises(ValueError, match="tasks"):
        AblationSpec.model_validate(ablation | {"harness": {"tasks": []}})
