"""Checkpoints written by transformers, with random values, to be edited and imported."""

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
from gptzoo.interop.hugging_face import ImportResult, import_folder


class Checkpoint:
    """A checkpoint folder that transformers wrote."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.out = folder.with_name("out")

    def edit_config(self, change: dict[str, Any], without: tuple[str, ...] = ()) -> None:
        file = self.folder / "config.json"
        config = {**json.loads(file.read_text()), **change}
        file.write_text(json.dumps({key: value for key, value in config.items() if key not in without}))

    def edit_tensors(self, change: Callable[[dict[str, Tensor]], dict[str, Tensor]]) -> None:
        file = self.folder / "model.safetensors"
        # Clone the tensors: load_file may map the file that save_file overwrites.
        tensors = {name: tensor.clone() for name, tensor in load_file(file).items()}
        save_file({name: tensor.contiguous() for name, tensor in change(tensors).items()}, file)

    def import_(self) -> ImportResult:
        return import_folder(self.folder, self.out)

    def spec(self) -> dict[str, Any]:
        """Return the spec in the imported model folder."""
        return json.loads((self.out / "model.json").read_text())

    def import_error(self, error: type[Exception]) -> str:
        """Import, check that it raises `error` and writes nothing, and return the error message."""
        before = sorted(self.folder.parent.iterdir())
        with pytest.raises(error) as raised:
            self.import_()
        assert sorted(self.folder.parent.iterdir()) == before
        return str(raised.value)

    def assert_same_logits(self, reference: nn.Module | None = None) -> None:
        """Compare the logits of the imported model with those of transformers."""
        if reference is None:
            reference = AutoModelForCausalLM.from_pretrained(self.folder)
        model = gptzoo.load(self.out).model
        tokens = torch.randint(0, reference.config.vocab_size, (2, 12), generator=torch.Generator().manual_seed(0))
        with torch.no_grad():
            expected = reference.eval()(tokens).logits
            logits, _ = model(tokens)
        assert expected.std() > 0.1  # Otherwise any logits would be close.
        assert torch.allclose(logits, expected.float(), rtol=0, atol=1e-4)


def randomise(model: nn.Module) -> None:
    """Add noise to all parameters: initial biases (0) and norm weights (1) would hide swapped tensors."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.2)


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


@pytest.fixture
def save(tmp_path: Path) -> Callable[..., Checkpoint]:
    """Return a function that randomises a transformers model and saves it as a checkpoint."""

    def save(model: Any, **kwargs: Any) -> Checkpoint:
        randomise(model)
        model.save_pretrained(tmp_path / "checkpoint", **kwargs)
        return Checkpoint(tmp_path / "checkpoint")

    return save
