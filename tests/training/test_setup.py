"""The setup of a run: frozen parameters and initial weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from runs import rows

import gptzoo
from gptzoo.errors import DataError, FolderError, InputError
from gptzoo.training.run.run_folder import RunFolder
from gptzoo.training.setup import Setup


def setup_of(spec: dict[str, Any], out: Path) -> Setup:
    return Setup(gptzoo.load_run_spec(spec), RunFolder(out))


def test_frozen_parameters_do_not_change(run_spec: dict[str, Any], tmp_path: Path) -> None:
    run_spec |= {"freeze": ["embed.*", "blocks.0.*"], "steps": 2}
    before = setup_of(run_spec, tmp_path / "run").model.state_dict()
    gptzoo.train(run_spec, tmp_path / "run", quiet=True)
    after = gptzoo.load(tmp_path / "run").model.state_dict()
    changed = {name for name, tensor in before.items() if not torch.equal(tensor, after[name])}
    assert changed
    assert not any(name.startswith(("embed.", "blocks.0.")) for name in changed)


def test_a_freeze_pattern_must_match_and_leave_parameters_to_train(run_spec: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"\$\.freeze\[1\]: 'embd\.\*' matches no parameter\. Parameters: blocks\.0\."):
        setup_of({**run_spec, "freeze": ["embed.*", "embd.*"]}, tmp_path / "run")
    with pytest.raises(InputError, match=r"\$\.freeze: every parameter is frozen"):
        setup_of({**run_spec, "freeze": ["*"]}, tmp_path / "run")


def test_a_run_starts_with_the_weights_of_another_run(run_spec: dict[str, Any], tmp_path: Path) -> None:
    gptzoo.train({**run_spec, "steps": 2}, tmp_path / "first", quiet=True)
    run_spec |= {"init_from": str(tmp_path / "first"), "seed": 2, "steps": 1}
    gptzoo.train(run_spec, tmp_path / "second", quiet=True)
    assert rows(tmp_path / "second")[0]["val/loss"] == rows(tmp_path / "first")[-1]["val/loss"]


def test_initial_weights_must_fit_the_model_and_the_tokenizer(run_spec: dict[str, Any], tmp_path: Path) -> None:
    gptzoo.train({**run_spec, "steps": 1}, tmp_path / "first", quiet=True)
    run_spec["init_from"] = str(tmp_path / "first")
    with pytest.raises(DataError, match=r"belong to another tokenizer \('byte'\) than this run's \('char'\)"):
        gptzoo.train({**run_spec, "tokenizer": "char"}, tmp_path / "run", quiet=True)
    run_spec["model"]["n_layers"] = 1
    with pytest.raises(FolderError, match=r'init_from .*Use its model with "model": '):
        gptzoo.train(run_spec, tmp_path / "other", quiet=True)


def test_spare_token_ids_of_the_model_are_noted(run_spec: dict[str, Any], tmp_path: Path) -> None:
    def messages(vocab_size: int | None, out: Path) -> str:
        spec = {**run_spec, "tokenizer": "byte", "steps": 1}
        spec["model"] = {**spec["model"], "vocab_size": vocab_size}
        return "\n".join(setup_of(spec, out).notes())

    assert messages(300, tmp_path / "a") == (
        "note: the model has 300 token ids and the tokenizer 257. The 43 spare ids do not occur in the text, and are "
        "never generated"
    )
    assert messages(257, tmp_path / "b") == messages(None, tmp_path / "c") == ""


def test_the_note_about_spare_token_ids_is_printed(
    run_spec: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_spec |= {"tokenizer": "byte", "steps": 1, "model": {**run_spec["model"], "vocab_size": 300}}
    gptzoo.train(run_spec, tmp_path / "run")
    captured = capsys.readouterr()
    assert "43 spare ids" in captured.out + captured.err
