"""An ablation whose trials are scored on a task of lm-evaluation-harness."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("lm_eval", reason="needs gptzoo[lm-eval]")
pytestmark = pytest.mark.slow

QUESTIONS = [
    {"question": "the quick brown", "choices": [" fox", " zqx"], "answer": 0},
    {"question": "the lazy", "choices": ["@#%", " dog"], "answer": 1},
    {"question": "jumps", "choices": [" over", "~~~~~"], "answer": 0},
]


def gptzoo(folder: Path, *arguments: str, code: int = 0) -> str:
    home = {"HF_HUB_OFFLINE": "1", "HF_HOME": str(folder / "hub"), "OMP_NUM_THREADS": "1", "NO_COLOR": "1"}
    command = [sys.executable, "-m", "gptzoo", *arguments]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, env={**os.environ, **home}, timeout=600)
    assert done.returncode == code, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout if code == 0 else done.stderr


def write_ablation(folder: Path, **harness: Any) -> None:
    base = {
        "model": {"context_length": 16, "d_model": 16, "n_layers": 1, "n_heads": 2},
        "corpus": {"type": "text", "path": "page.txt"},
        "tokenizer": "byte",
        "batch_size": 4,
        "steps": 6,
        "device": "cpu",
    }
    ablation = {"base": base, "axes": {"model.positional": ["rope", "none"]}, "seeds": [1, 2], "samples": False}
    (folder / "ablation.json").write_text(json.dumps(ablation | {"harness": harness}))


def test_trials_are_scored_like_lm_eval_scores_them_and_only_once(tmp_path: Path) -> None:
    (tmp_path / "page.txt").write_text("the quick brown fox jumps over the lazy dog. " * 40)
    (tmp_path / "questions.jsonl").write_text("".join(json.dumps(question) + "\n" for question in QUESTIONS))
    (tmp_path / "tasks").mkdir()
    task = {
        "task": "tiny",
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(tmp_path / "questions.jsonl")}},
        "test_split": "test",
        "output_type": "multiple_choice",
        "doc_to_text": "{{question}}",
        "doc_to_choice": "choices",
        "doc_to_target": "answer",
        "metric_list": [{"metric": "acc", "aggregation": "mean", "higher_is_better": True}],
    }
    (tmp_path / "tasks" / "tiny.yaml").write_text(json.dumps(task))

    write_ablation(tmp_path, tasks=["no_such_task"], include_path="tasks")
    assert "no task 'no_such_task'" in gptzoo(tmp_path, "ablate", "ablation.json", "--out", "out", code=2)
    assert not (tmp_path / "out").exists()

    write_ablation(tmp_path, tasks=["tiny"], include_path="tasks")
    result = json.loads(gptzoo(tmp_path, "ablate", "ablation.json", "--out", "out", "--json"))
    assert [score["variant"] for score in result["scores"]] == ["rope", "none"]
    assert all(set(score["values"]) == {"1", "2"} for score in result["scores"])
    (trial,) = (tmp_path / "out" / "trials").glob("rope-seed1-*")
    (mine,) = (score["values"]["1"] for score in result["scores"] if score["variant"] == "rope")
    gptzoo(
        tmp_path,
        *("lm-eval", str(trial), "--tasks", "tiny", "--include_path", "tasks"),
        *("--output_path", "scores", "--device", "cpu"),
    )
    (file,) = (tmp_path / "scores").glob("*/results_*.json")
    assert json.loads(file.read_text())["results"]["tiny"]["acc,none"] == pytest.approx(mine, abs=1e-12)

    times = [file.stat().st_mtime_ns for file in sorted(tmp_path.glob("out/trials/*/scores.json"))]
    gptzoo(tmp_path, "ablate", "ablation.json", "--out", "out")
    assert [file.stat().st_mtime_ns for file in sorted(tmp_path.glob("out/trials/*/scores.json"))] == times
