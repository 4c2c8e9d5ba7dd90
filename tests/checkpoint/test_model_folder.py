"""Model folders: a saved model loads unchanged, and errors name the file or tensor at fault."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

import gptzoo
from gptzoo.checkpoint.checkpoints import save_checkpoint
from gptzoo.checkpoint.model_folder import save_model
from gptzoo.data.tokenizers.char import CharTokenizer
from gptzoo.errors import FolderError, SpecError

SPEC: dict[str, Any] = {"vocab_size": 11, "context_length": 8, "d_model": 16, "n_layers": 2, "n_heads": 2}
TOKENS = torch.arange(8)[None]


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("positional", ["learned", "rope"])
def test_a_saved_model_computes_the_same_when_loaded(tmp_path: Path, positional: str, tied: bool) -> None:
    model = gptzoo.build({**SPEC, "positional": positional, "tie_embeddings": tied}, seed=4).eval()
    save_model(tmp_path / "m", model, CharTokenizer(CharTokenizer.Config(), "abcdefghijk"))
    loaded = gptzoo.load(tmp_path / "m")
    assert not loaded.model.training
    assert torch.equal(loaded.model(TOKENS)[0], model(TOKENS)[0])
    assert loaded.tokenizer is not None
    assert loaded.tokenizer.decode([2, 1, 0]) == "cba"
    assert loaded.spec == model.spec


def test_loading_computes_the_buffers_that_are_not_saved(tmp_path: Path) -> None:
    from gptzoo import registry

    class Scaled(gptzoo.Activation):
        """Multiplies by a buffer of twos."""

        name = "doubles"

        def __init__(self, config: Any, width: int):
            super().__init__(config, width)
            self.register_buffer("factor", torch.empty(width), persistent=False)

        def initialise(self, rng: Any) -> None:
            self.factor.fill_(2.0)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x * self.factor

    class Plugin:
        @gptzoo.hookimpl
        def gptzoo_components(self) -> list[type[gptzoo.Component]]:
            return [Scaled]

    fresh = registry.discover(selection="none")
    fresh.admit(Plugin(), registry.Origin("test", "test", "1"))
    with registry.use(fresh):
        model = gptzoo.build({**SPEC, "activation": "doubles"}).eval()
        save_model(tmp_path / "m", model)
        assert torch.equal(gptzoo.load(tmp_path / "m").model(TOKENS)[0], model(TOKENS)[0])
    with pytest.raises(SpecError, match="no activation named 'doubles'"):
        gptzoo.load(tmp_path / "m")


def test_a_model_is_not_saved_into_a_folder_that_is_not_empty(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(FolderError, match="not empty"):
        save_model(tmp_path, gptzoo.build(SPEC))
    assert [file.name for file in tmp_path.iterdir()] == ["notes.txt"]


def edit_tensors(folder: Path, edit: Callable[[dict[str, torch.Tensor]], object]) -> None:
    tensors = load_file(folder / "model.safetensors")
    edit(tensors)
    save_file(tensors, folder / "model.safetensors")


@pytest.mark.parametrize(
    ("edit", "reason"),
    [
        (lambda t: t.pop("embed.weight"), "embed.weight is missing"),
        (lambda t: t.update(extra=torch.zeros(1)), "extra is not part of the model"),
        (
            lambda t: t.update({"embed.weight": torch.zeros(3, 16)}),
            r"embed.weight has shape \(3, 16\), the model expects \(11, 16\)",
        ),
    ],
)
def test_tensors_that_do_not_match_the_spec_are_named(
    tmp_path: Path, edit: Callable[[dict[str, torch.Tensor]], object], reason: str
) -> None:
    save_model(tmp_path / "m", gptzoo.build(SPEC))
    edit_tensors(tmp_path / "m", edit)
    with pytest.raises(FolderError, match=reason):
        gptzoo.load(tmp_path / "m")


def test_damaged_and_missing_files_are_named(tmp_path: Path) -> None:
    save_model(tmp_path / "m", gptzoo.build(SPEC))
    weights = tmp_path / "m" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-7])
    with pytest.raises(FolderError, match=r"model\.safetensors: cannot be read"):
        gptzoo.load(tmp_path / "m")
    weights.unlink()
    with pytest.raises(FolderError, match=r"model\.safetensors: no such file"):
        gptzoo.load(tmp_path / "m")
    with pytest.raises(FolderError, match="no such folder"):
        gptzoo.load(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(FolderError, match="neither a model folder"):
        gptzoo.load(tmp_path / "empty")
    with pytest.raises(FolderError, match=r"no such folder; did you mean '.*/empty'\?"):
        gptzoo.load(tmp_path / "emtpy")


def test_a_run_without_checkpoints_and_a_run_with_damaged_ones_have_different_errors(tmp_path: Path) -> None:
    (tmp_path / "checkpoints").mkdir()
    with pytest.raises(FolderError, match="no complete checkpoint yet"):
        gptzoo.load(tmp_path)
    for step in (1, 2):
        save_checkpoint(tmp_path / "checkpoints", step, lambda folder: (folder / "weights").touch(), keep=2)
        (tmp_path / "checkpoints" / f"step-0000000{step}" / "weights").write_text("damaged")
    with pytest.raises(FolderError, match=r"no valid checkpoint; the newest is .*step-00000002: weights"):
        gptzoo.load(tmp_path)


def test_the_error_for_an_ablation_folder_suggests_one_of_its_runs(tmp_path: Path) -> None:
    (tmp_path / "trials" / "rope-seed1" / "checkpoints").mkdir(parents=True)
    with pytest.raises(FolderError, match=r"is an ablation folder; give one of its runs, such as .*rope-seed1"):
        gptzoo.load(tmp_path)


def test_loading_a_checkpoint_imports_no_module_that_it_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_model(tmp_path / "m", gptzoo.build(SPEC))
    (tmp_path / "evil.py").write_text("raise SystemExit('imported')")
    monkeypatch.syspath_prepend(tmp_path)
    spec = json.loads((tmp_path / "m" / "model.json").read_text())
    spec["attention"]["type"] = "evil"
    (tmp_path / "m" / "model.json").write_text(json.dumps(spec))
    with pytest.raises(SpecError, match="no attention named 'evil'"):
        gptzoo.load(tmp_path / "m")
