"""A model in a folder whose weights are read one at a time, for exports that need no model in memory."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from gptzoo.checkpoint.model_folder import WEIGHTS, check_ema_weights, check_names_and_shapes, find_ema_weights
from gptzoo.data.tokenizers.tokenizer import Tokenizer, load_tokenizer
from gptzoo.interop.stored_tensors import StoredTensor, open_safetensors
from gptzoo.model.build import build_on_meta
from gptzoo.spec.files import load_model_spec
from gptzoo.spec.model import ModelSpec


@dataclass(frozen=True)
class StoredModel:
    """A model folder, with the tensors of its files in a memory map."""

    folder: Path
    spec: ModelSpec
    tokenizer: Tokenizer | None
    _tensors: Mapping[str, StoredTensor]

    @classmethod
    def open(cls, folder: Path, *, averaged: bool = False) -> StoredModel:
        """Open a model folder.

        averaged: take the exponential moving average of the weights instead of the weights.

        Raises FolderError if a file is missing or damaged, or its tensors are not those of the model.
        """
        spec = load_model_spec(folder / "model.json")
        tensors = open_safetensors(folder / WEIGHTS)
        model = build_on_meta(spec)
        on_meta = {name: torch.empty(tensor.shape, device="meta") for name, tensor in tensors.items()}
        check_names_and_shapes(on_meta, model.state_dict(), folder)
        if averaged:
            averages = open_safetensors(find_ema_weights(folder))
            check_ema_weights(averages, model, folder)
            tensors |= averages
        file = folder / "tokenizer.json"
        return cls(folder, spec, load_tokenizer(file) if file.exists() else None, tensors)

    def state_dict(self) -> Mapping[str, Tensor]:
        """Return the tensors of the model, in float32, each read when it is asked for."""
        return _State(self._tensors)


class _State(Mapping[str, Tensor]):
    def __init__(self, tensors: Mapping[str, StoredTensor]):
        self._tensors = tensors

    def __getitem__(self, name: str) -> Tensor:
        tensor = self._tensors[name].read()
        return tensor.float() if tensor.is_floating_point() else tensor

    def __iter__(self) -> Iterator[str]:
        return iter(self._tensors)

    def __len__(self) -> int:
        return len(self._tensors)
