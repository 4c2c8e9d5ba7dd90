from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import AutoModelForCausalLM

import gptzoo
from gptzoo.interop.hugging_face import Imported, import_folder


class Checkpoint:
    """A checkpoint folder that transformers wrote, to be changed and imported."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.out = folder.with_name("out")

    def edit_config(self, change: dict[str, Any], without: tuple[str, ...] = ()) -> None:
        file = self.folder / "config.json"
        config = {**json.loads(file.read_text()), **change}
        file.write_text(json.dumps({key: value for key, value in config.items() if key not in without}))

    def edit_tensors(self, change: Callable[[dict[str, Tensor]], dict[str, Tensor]]) -> None:
        file = self.folder / "model.safetensors"
        # Cloned: what load_file returns may be backed by the file that is about to be written.
        tensors = {name: tensor.clone() for name, tensor in load_file(file).items()}
        save_file({name: tensor.contiguous() for name, tensor in change(tensors).items()}, file)

    def import_(self) -> Imported:
        return import_folder(self.folder, self.out)

    def spec(self) -> dict[str, Any]:
        """The spec in the model folder, after an import."""
        return json.loads((self.out / "model.json").read_text())

    def refused(self, error: type[Exception]) -> str:
        """The text of the error that an import raises, having written nothing."""
        before = sorted(self.folder.parent.iterdir())
        with pytest.raises(error) as raised:
            self.import_()
        assert sorted(self.folder.parent.iterdir()) == before
        return str(raised.value)

    def assert_same_logits(self, reference: nn.Module | None = None) -> None:
        """The imported model and the one that transformers loads from the folder give the same logits."""
        if reference is None:
            reference = AutoModelForCausalLM.from_pretrained(self.folder)
        model = gptzoo.load(self.out).model
        tokens = torch.randint(0, reference.config.vocab_size, (2, 12), generator=torch.Generator().manual_seed(0))
        with torch.no_grad():
            expected = reference.eval()(tokens).logits
            logits, _ = model(tokens)
        assert expected.std() > 0.1  # or else anything would be near it
        assert torch.allclose(logits, expected.float(), rtol=0, atol=1e-4)


def randomise(model: nn.Module) -> None:
    """Biases are zero and norms one at first, and could be exchanged unnoticed."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.2)


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


@pytest.fixture
def save(tmp_path: Path) -> Callable[..., Checkpoint]:
    """Save a transformers model, its values made random, as a checkpoint."""

    def save(model: Any, **kwargs: Any) -> Checkpoint:
        randomise(model)
        model.save_pretrained(tmp_path / "checkpoint", **kwargs)
        return Checkpoint(tmp_path / "checkpoint")

    return save
