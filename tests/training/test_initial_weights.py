"""Trained weights in a model with another part: which tensors are taken over, which are new, and what is trained."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from runs import rows
from torch import Tensor

import gptzoo
from gptzoo.errors import FolderError, InputError, SpecError
from gptzoo.training.run.run_folder import RunFolder
from gptzoo.training.setup import Setup

Json = dict[str, Any]


@pytest.fixture
def trained(run_spec: Json, tmp_path: Path) -> Path:
    gptzoo.train({**run_spec, "steps": 2}, tmp_path / "trained", quiet=True)
    return tmp_path / "trained"


def weights_of(folder: Path) -> dict[str, Tensor]:
    return gptzoo.load(folder).model.state_dict()


def initial_weights(spec: Json, out: Path) -> dict[str, Tensor]:
    """Return the weights that a run starts with: those of its first checkpoint, with a learning rate near 0."""
    spec = {**spec, "steps": 1, "optimizer": {"type": "sgd", "lr": 1e-9, "momentum": 0.0}, "schedule": "constant"}
    gptzoo.train(spec, out, quiet=True)
    return weights_of(out)


def fresh_weights(spec: Json, out: Path) -> dict[str, Tensor]:
    return Setup(gptzoo.load_run_spec({**spec, "init_from": None}), RunFolder(out)).model.state_dict()


def with_part(spec: Json, **options: Any) -> Json:
    return {**spec, "model": {**spec["model"], **options}}


def assert_from(actual: dict[str, Tensor], origin: dict[str, dict[str, Tensor]]) -> None:
    """`origin` gives, by prefix of the names of tensors, the state dict that they must be equal to."""
    for name, tensor in actual.items():
        source = next(tensors for prefix, tensors in origin.items() if name.startswith(prefix))
        torch.testing.assert_close(tensor, source[name], rtol=0, atol=1e-7, msg=name)


def test_a_new_part_is_initialised_and_the_others_are_taken_over(
    run_spec: Json, trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spec = with_part(run_spec, ffn={"type": "glu", "multiplier": 2.0}) | {"seed": 9}
    spec["init_from"] = {"path": str(trained), "partial": True}
    Setup(gptzoo.load_run_spec(spec), RunFolder(tmp_path / "x"))
    gptzoo.train({**spec, "steps": 1}, tmp_path / "noted")
    printed = "".join(capsys.readouterr())
    assert "new, initialised with seed 9: blocks.*.ffn.down.weight, blocks.*.ffn.gate_up.weight" in printed
    assert "left over: blocks.*.ffn.down.weight, blocks.*.ffn.up.bias, blocks.*.ffn.up.weight (6 tensors)" in printed
    record = json.loads((tmp_path / "noted" / "initial_weights.json").read_text())
    old, new = weights_of(trained), fresh_weights(spec, tmp_path / "x")
    assert set(record["taken"]) | set(record["new"]) == new.keys()
    assert set(record["left_over"]) == old.keys() - set(record["taken"])
    assert set(record["new"]) == {name for name in new if ".ffn.gate_up." in name or ".ffn.down.weight" in name}
    actual = initial_weights(spec, tmp_path / "run")
    assert_from(actual, {**dict.fromkeys(record["new"], new), "": old})


def test_a_part_that_does_not_fit_is_refused_without_partial(run_spec: Json, trained: Path, tmp_path: Path) -> None:
    spec = with_part(run_spec, ffn="glu") | {"init_from": str(trained)}
    with pytest.raises(FolderError, match=r'does not match the model of this run: .*"partial": true'):
        gptzoo.train(spec, tmp_path / "run", quiet=True)
    assert not (tmp_path / "run" / "run.json").exists()


def test_parts_come_from_another_run_or_are_new(run_spec: Json, trained: Path, tmp_path: Path) -> None:
    gptzoo.train({**run_spec, "steps": 1, "seed": 5}, tmp_path / "other", quiet=True)
    parts = {"blocks.*.ffn": str(tmp_path / "other"), "blocks.1.attention": None}
    spec = {**run_spec, "seed": 9, "init_from": {"path": str(trained), "parts": parts}}
    new = fresh_weights(spec, tmp_path / "x")
    old, other = weights_of(trained), weights_of(tmp_path / "other")
    actual = initial_weights(spec, tmp_path / "run")
    assert_from(actual, {"blocks.0.ffn": other, "blocks.1.ffn": other, "blocks.1.attention": new, "": old})
    spec["init_from"] = {"parts": {"embed": str(trained)}}
    assert_from(initial_weights(spec, tmp_path / "rest"), {"embed": old, "": new})


def test_a_part_must_fit_as_a_whole(run_spec: Json, trained: Path, tmp_path: Path) -> None:
    def start(parts: Json, **options: Any) -> None:
        init_from = {"path": str(trained), "partial": True, "parts": parts}
        Setup(
            gptzoo.load_run_spec({**with_part(run_spec, **options), "init_from": init_from}), RunFolder(tmp_path / "x")
        ).read_initial_weights()

    source = str(trained)
    with pytest.raises(FolderError, match=r'parts\["blocks\.\*\.ffn"\]: .*does not fit: .*gate_up\.weight is'):
        start({"blocks.*.ffn": source}, ffn="glu")
    with pytest.raises(InputError, match=r'parts\["blocks\.\*\.fnn"\]: matches no tensor of the model'):
        start({"blocks.*.fnn": source})
    with pytest.raises(InputError, match=r"is part of 'blocks\.\*\.ffn' too"):
        start({"blocks.*.ffn": source, "blocks.0": source})
    with pytest.raises(SpecError, match="names no weights"):
        gptzoo.load_run_spec({**run_spec, "init_from": {"partial": True}})


@pytest.mark.parametrize(("length", "partial"), [(8, False), (8, True), (24, True)])
def test_learned_positions_are_taken_over_as_far_as_they_go(
    run_spec: Json, trained: Path, tmp_path: Path, length: int, partial: bool
) -> None:
    spec = with_part(run_spec, context_length=length)
    spec["init_from"] = {"path": str(trained), "partial": partial}
    actual, name = initial_weights(spec, tmp_path / "run"), "positionals.0.table.weight"
    old, new = weights_of(trained), fresh_weights(spec, tmp_path / "x")
    expected = torch.cat([old[name][:length], new[name][16:]])
    torch.testing.assert_close(actual.pop(name), expected, rtol=0, atol=1e-7)
    assert_from(actual, {"": old})


def test_a_longer_context_needs_partial_for_learned_positions_only(run_spec: Json, tmp_path: Path) -> None:
    for positional in ("rope", "learned"):
        spec = with_part(run_spec, positional=positional)
        gptzoo.train({**spec, "steps": 1}, tmp_path / positional, quiet=True)
        spec = with_part(spec, context_length=32) | {"init_from": str(tmp_path / positional)}
        if positional == "rope":
            assert_from(initial_weights(spec, tmp_path / "run"), {"": weights_of(tmp_path / positional)})
        else:
            with pytest.raises(FolderError, match=r"table\.weight has shape \(16, 16\), the model expects \(32, 16\)"):
                gptzoo.train(spec, tmp_path / "run2", quiet=True)


def test_options_that_differ_are_noted(run_spec: Json, trained: Path, tmp_path: Path) -> None:
    spec = with_part(run_spec, activation="relu") | {"init_from": str(trained)}
    setup = Setup(gptzoo.load_run_spec(spec), RunFolder(tmp_path / "x"))
    weights = setup.read_initial_weights()
    assert weights is not None
    assert any("options that differ" in note and "$.activation" in note for note in weights.notes)


def test_only_the_new_part_is_trained_and_resuming_is_bitwise(run_spec: Json, trained: Path, tmp_path: Path) -> None:
    """With weight decay and clipping: frozen weights have no decay, and their gradients count in no norm."""
    spec = with_part(run_spec, ffn={"type": "glu", "multiplier": 2.0})
    spec |= {"optimizer": {"type": "adamw", "lr": 0.01, "weight_decay": 0.5}, "clip_norm": 0.1, "ema_decay": 0.9}
    spec |= {"init_from": {"path": str(trained), "partial": True}, "train_only": ["blocks.*.ffn"]}
    gptzoo.train(spec, tmp_path / "whole", quiet=True)
    gptzoo.train(spec, tmp_path / "parts", quiet=True, until=5)
    (tmp_path / "trained").rename(tmp_path / "gone")  # only the start reads it
    gptzoo.train(spec, tmp_path / "parts", quiet=True, resume=True)
    whole, parts, old = weights_of(tmp_path / "whole"), weights_of(tmp_path / "parts"), weights_of(tmp_path / "gone")
    for name, tensor in whole.items():
        assert torch.equal(tensor, parts[name]), name
        if ".ffn." not in name:
            assert torch.equal(tensor, old[name]), name
    losses = [[row.get("train/loss") for row in rows(tmp_path / run)] for run in ("whole", "parts")]
    assert losses[0] == losses[1]


def test_the_gradient_norm_counts_trained_parameters_only(run_spec: Json, tmp_path: Path) -> None:
    spec = {**with_part(run_spec, dropout=0.0), "steps": 1, "train_only": ["exit", "blocks.1.ffn"]}
    gptzoo.train(spec, tmp_path / "run", quiet=True)
    setup = Setup(gptzoo.load_run_spec(spec), RunFolder(tmp_path / "x"))
    batch = {name: torch.from_numpy(array) for name, array in setup.batching.train_batch(0, 64).items()}
    setup.model.requires_grad_(True)(**batch)[1].backward()
    gradients = [p.grad.flatten() for name, p in setup.model.named_parameters() if name in setup.parameters]
    expected = torch.cat(gradients).norm().item()
    assert rows(tmp_path / "run")[-1]["grad_norm"] == pytest.approx(expected, rel=1e-4)


def test_patterns_of_train_only_must_match_and_leave_something(run_spec: Json, tmp_path: Path) -> None:
    def start(**fields: Any) -> Setup:
        return Setup(gptzoo.load_run_spec({**run_spec, **fields}), RunFolder(tmp_path / "x"))

    with pytest.raises(InputError, match=r"\$\.train_only\[1\]: 'blocks\.\*\.fnn' matches no parameter\. Parameters: "):
        start(train_only=["embed", "blocks.*.fnn"])
    with pytest.raises(InputError, match=r"every parameter is frozen"):
        start(train_only=["embed"], freeze=["embed.weight"])
    setup = start(train_only=["blocks.*.attention"], freeze=["blocks.0"])
    assert set(setup.parameters) == {name for name in setup.model.state_dict() if name.startswith("blocks.1.attention")}
    assert "training 1,088 of" in setup.notes()[0]


def test_a_path_alone_stays_a_string_in_the_resolved_spec(run_spec: Json, trained: Path) -> None:
    spec = gptzoo.load_run_spec({**run_spec, "init_from": str(trained)})
    assert spec.resolved()["init_from"] == str(trained)
    again = gptzoo.load_run_spec(spec.resolved())
    assert again == spec


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (3, r"\$\.init_from: should be a path, or an object with path, partial and parts"),
        ({"pth": "x"}, r"\$\.init_from\.pth: no field named 'pth'; did you mean 'path'"),
        ({"path": "x", "parts": {"a": 3}}, r"\$\.init_from\.parts\.a: should be a valid string"),
    ],
)
def test_wrong_values_are_located(run_spec: Json, value: Any, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        gptzoo.load_run_spec({**run_spec, "init_from": value})


def test_an_option_of_a_path_can_be_set(spec_file: Path, trained: Path) -> None:
    spec = gptzoo.load_run_spec(spec_file, [f"init_from={trained}", "init_from.partial=true"])
    assert spec.resolved()["init_from"] == {"path": str(trained), "partial": True, "parts": {}}
