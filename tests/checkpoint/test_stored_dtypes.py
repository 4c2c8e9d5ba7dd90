"""Weights of 16 bits stay 16 bits when a model is loaded and written again, and become float32 when they change."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from hub_server import TOKEN, HubServer
from safetensors.torch import load_file
from torch import Tensor

import gptzoo
from gptzoo.checkpoint.model_folder import save_model, write_tensors
from gptzoo.checkpoint.stored_dtypes import common_dtype
from gptzoo.cli import main
from gptzoo.data.tokenizers.byte import ByteTokenizer
from gptzoo.eject.eject import write_weights

SPEC: dict[str, Any] = {"vocab_size": 257, "context_length": 16, "d_model": 16, "n_layers": 2, "n_heads": 2}
CHANGED = "blocks.1.ffn.down.weight"


def make_folder(folder: Path, dtype: torch.dtype) -> dict[str, Tensor]:
    """Write a model folder with weights in a type, as an import does, and return them."""
    model = gptzoo.build(SPEC)
    save_model(folder, model, ByteTokenizer(ByteTokenizer.Config()))
    tensors = {name: (tensor + 0.01).to(dtype) for name, tensor in model.state_dict().items()}
    write_tensors(folder / "model.safetensors", tensors)
    return tensors


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    """Return True if names, types and bits are the same."""
    return a.keys() == b.keys() and all(a[n].dtype == b[n].dtype and torch.equal(a[n], b[n]) for n in a)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_a_model_that_is_loaded_and_saved_keeps_its_types(tmp_path: Path, dtype: torch.dtype) -> None:
    tensors = make_folder(tmp_path / "a", dtype)
    loaded = gptzoo.load(tmp_path / "a")
    assert {tensor.dtype for tensor in loaded.model.state_dict().values()} == {torch.float32}
    save_model(tmp_path / "b", loaded.model, loaded.tokenizer)
    assert same(load_file(tmp_path / "b" / "model.safetensors"), tensors)


def test_a_weight_that_needs_more_bits_is_saved_in_float32(tmp_path: Path) -> None:
    tensors = make_folder(tmp_path / "a", torch.bfloat16)
    model = gptzoo.load(tmp_path / "a").model
    with torch.no_grad():
        changed = model.get_parameter(CHANGED).mul_(1 + 1e-6).clone()
    save_model(tmp_path / "b", model)
    assert same(load_file(tmp_path / "b" / "model.safetensors"), {**tensors, CHANGED: changed})


def test_an_export_keeps_the_type_unless_weights_have_changed(tmp_path: Path) -> None:
    tensors = make_folder(tmp_path / "a", torch.bfloat16)
    loaded = gptzoo.load(tmp_path / "a")
    result = gptzoo.export_hf(loaded, tmp_path / "exported")
    config = json.loads((tmp_path / "exported" / "config.json").read_text())
    assert (result.dtype, config["dtype"], config["torch_dtype"]) == ("bfloat16",) * 3
    assert {tensor.dtype for tensor in load_file(tmp_path / "exported" / "model.safetensors").values()} == {
        torch.bfloat16
    }
    imported = CliRunner().invoke(main, ["import-hf", str(tmp_path / "exported"), str(tmp_path / "back")])
    assert imported.exit_code == 0, imported.output
    assert same(load_file(tmp_path / "back" / "model.safetensors"), tensors)
    with torch.no_grad():
        loaded.model.get_parameter(CHANGED).mul_(1 + 1e-6)
    assert gptzoo.export_hf(loaded, tmp_path / "changed").dtype == "float32"
    assert gptzoo.export_hf(loaded, tmp_path / "rounded", dtype="bfloat16").dtype == "bfloat16"


def test_the_weights_of_an_ejected_file_keep_their_type(tmp_path: Path) -> None:
    tensors = make_folder(tmp_path / "a", torch.bfloat16)
    write_weights(tmp_path / "ejected.safetensors", gptzoo.load(tmp_path / "a").model)
    ejected = load_file(tmp_path / "ejected.safetensors")
    assert {tensor.dtype for tensor in ejected.values()} == {torch.bfloat16}
    assert sum(tensor.numel() for tensor in ejected.values()) == sum(tensor.numel() for tensor in tensors.values())


def test_training_goes_on_with_master_weights_in_float32(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GPTZOO_CACHE", str(tmp_path / "cache"))
    make_folder(tmp_path / "base", torch.bfloat16)
    spec = {
        "model": SPEC,
        "init_from": str(tmp_path / "base"),
        "train_only": ["blocks.*.ffn"],
        "corpus": {"type": "stories", "n_stories": 60},
        "tokenizer": "byte",
        "batch_size": 2,
        "steps": 1,
        "device": "cpu",
        "sample": {"max_new_tokens": 0},
    }
    (tmp_path / "run.json").write_text(json.dumps(spec))
    result = CliRunner().invoke(main, ["train", str(tmp_path / "run.json"), "--out", str(tmp_path / "run")])
    assert result.exit_code == 0, result.output
    weights = load_file(gptzoo.load(tmp_path / "run").folder / "model.safetensors")
    assert {tensor.dtype for tensor in weights.values()} == {torch.float32}


def test_a_pushed_and_pulled_model_keeps_its_types(
    tmp_path: Path, hub: HubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    tensors = make_folder(tmp_path / "a", torch.bfloat16)
    for arguments in (["push", tmp_path / "a", "ada/tiny"], ["pull", "ada/tiny", tmp_path / "b"]):
        result = CliRunner().invoke(main, [str(argument) for argument in arguments])
        assert result.exit_code == 0, result.output
    assert same(load_file(tmp_path / "b" / "model.safetensors"), tensors)


def test_tensors_of_integers_do_not_decide_the_type_of_an_export(tmp_path: Path) -> None:
    make_folder(tmp_path / "model", torch.bfloat16)
    model = gptzoo.load(tmp_path / "model").model
    assert common_dtype(model) == torch.bfloat16
    model.register_buffer("table", torch.zeros(10**6, dtype=torch.int64))
    assert common_dtype(model) == torch.bfloat16
