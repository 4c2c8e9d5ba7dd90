"""The name of a model in titles: that of the run first, and never a default name."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from gptzoo.checkpoint.model_folder import model_title
from gptzoo.spec.files import load_model_spec

SPEC = {"vocab_size": 8, "context_length": 4, "d_model": 4, "n_layers": 1, "n_heads": 1, "attention": "sdpa"}
SPEC |= {"positional": "none", "norm": "pre_ln", "ffn": "mlp"}


@pytest.mark.parametrize(
    ("run", "model", "expected"),
    [
        ("mine", {}, "mine"),
        ("mine", {"name": "small"}, "mine"),
        ("run", {"name": "small"}, "small"),
        ("run", {}, "folder"),
        (None, {"name": "small"}, "small"),
        (None, {}, "folder"),
    ],
)
def test_a_title_names_the_run_then_the_model_then_the_folder(
    tmp_path: Path, run: str | None, model: dict[str, str], expected: str
) -> None:
    folder = tmp_path / "folder"
    checkpoint = folder / "checkpoints" / "step-00000010"
    checkpoint.mkdir(parents=True)
    spec = load_model_spec({**SPEC, **model})
    if run is not None:
        (folder / "run.json").write_text(json.dumps({"name": run}))
    assert model_title(checkpoint, spec) == expected
    assert model_title(folder, spec) == expected


def test_a_damaged_run_file_does_not_prevent_a_title(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text("{")
    assert model_title(tmp_path, load_model_spec({**SPEC, "name": "small"})) == "small"
