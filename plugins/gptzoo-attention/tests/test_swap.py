"""An attention of this package takes the place of a trained one, and is trained alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

import gptzoo
from gptzoo.training.run.run_folder import RunFolder
from gptzoo.training.setup import Setup

SPEC: dict[str, Any] = {
    "model": {"context_length": 16, "d_model": 32, "n_layers": 2, "n_heads": 4, "positional": "rope", "bias": False},
    "tokenizer": "byte",
    "batch_size": 8,
    "steps": 2,
    "device": "cpu",
    "sample": {"max_new_tokens": 0},
}


def attention_names(tensors: dict[str, Any]) -> set[str]:
    return {name for name in tensors if ".attention." in name and "norm.layers" not in name}


@pytest.mark.parametrize("attention", ["differential", "block_sparse", "flex"])
def test_an_attention_takes_the_place_of_a_trained_one(
    attention: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GPTZOO_CACHE", str(tmp_path / "cache"))
    (tmp_path / "text.txt").write_text("one two three red green blue cat dog runs sleeps " * 60)
    spec = {**SPEC, "corpus": {"type": "text", "path": str(tmp_path / "text.txt")}}
    gptzoo.train(spec, tmp_path / "base", quiet=True)
    spec["model"] = {**SPEC["model"], "attention": {"type": attention}}
    spec |= {"init_from": {"path": str(tmp_path / "base"), "partial": True}, "train_only": ["blocks.*.attention"]}
    start = Setup(gptzoo.load_run_spec(spec), RunFolder(tmp_path / "x")).model.state_dict()
    gptzoo.train(spec, tmp_path / "run", quiet=True)
    old, new = (gptzoo.load(tmp_path / run).model.state_dict() for run in ("base", "run"))
    record = json.loads((tmp_path / "run" / "initial_weights.json").read_text())
    assert set(record["new"]) == {name for name in start if "lambda" in name or "head_norm" in name}
    assert record["left_over"] == []
    for name, tensor in new.items():
        if name not in attention_names(new):
            assert torch.equal(tensor, old[name]), name
    assert any(not torch.equal(new[name], start[name]) for name in attention_names(new))
