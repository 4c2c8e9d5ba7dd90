from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture(autouse=True)
def private_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GPTZOO_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def text_file(tmp_path: Path) -> Path:
    words = ["one", "two", "three", "red", "green", "blue", "cat", "dog", "runs", "sleeps", "and", "then"]
    rng = random.Random(0)
    file = tmp_path / "text.txt"
    file.write_text(" ".join(rng.choice(words) for _ in range(1500)))
    return file


@pytest.fixture
def run_spec(text_file: Path) -> dict[str, Any]:
    """A run of twelve steps on a small text, with dropout and gradient accumulation."""
    return {
        "model": {"context_length": 16, "d_model": 16, "n_layers": 2, "n_heads": 2, "dropout": 0.3},
        "corpus": {"type": "text", "path": str(text_file)},
        "tokenizer": "byte",
        "batch_size": 64,
        "micro_batch_size": 32,
        "steps": 12,
        "optimizer": {"type": "adamw", "lr": 0.01},
        "schedule": {"type": "cosine", "warmup_steps": 2},
        "precision": "fp32",
        "device": "cpu",
        "eval": {"every": 5},
        "checkpoint": {"every": 4},
        "sample": {"max_new_tokens": 0},
    }


@pytest.fixture
def spec_file(run_spec: dict[str, Any], tmp_path: Path) -> Path:
    file = tmp_path / "run.json"
    file.write_text(json.dumps(run_spec))
    return file
