"""The kind `importer`: the translation of one family of Hugging Face `transformers` checkpoints.

class Mistral(gptzoo.Importer):
    '''Mistral: Llama with sliding-window attention.'''
    name = "mistral"                       # the "model_type" in config.json

    def spec(self, settings):              # settings of config.json -> model spec as JSON
        return {"d_model": settings.count("hidden_size", 4096), ...}

    def weights(self, spec):               # the checkpoint tensors of each tensor of the model
        yield Weight("embed.weight", "embed_tokens.weight")
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from gptzoo.component import Component, Config
from gptzoo.interop.gguf.architecture import GgufArchitecture
from gptzoo.interop.settings import Settings
from gptzoo.spec.model import ModelSpec


def concatenate(*tensors: Tensor) -> Tensor:
    """Concatenate tensors along dimension 0, as fused projections hold them. Return a single tensor unchanged."""
    return tensors[0] if len(tensors) == 1 else torch.cat(tensors)


def transpose(tensor: Tensor) -> Tensor:
    """Transpose a matrix, such as the weight of a `Conv1D`."""
    return tensor.t()


@dataclass(frozen=True)
class Weight:
    """One tensor of the gptzoo model and the checkpoint tensors it is made of."""

    name: str
    """Name in the state dict of the gptzoo model."""
    sources: str | tuple[str, ...]
    """Name or names in the checkpoint, without the importer's `prefix`."""
    convert: Callable[..., Tensor] = concatenate
    """Function from the source tensors, in order, to the tensor. Default: concatenate them along dimension 0.

    It runs on the meta device first, so that shapes are checked before any values are read.
    """
    copies: tuple[str, ...] = ()
    """Other names under which a checkpoint may store the source, as for tied embeddings. The values must be equal."""

    @property
    def source_names(self) -> tuple[str, ...]:
        """`sources` as a tuple, also if it is a single name."""
        return (self.sources,) if isinstance(self.sources, str) else self.sources


class Importer(Component):
    """Base class of importers. `name` is the `model_type` of the family."""

    kind = "importer"

    prefix: ClassVar[str] = ""
    """Prefix of the base model's tensors in a checkpoint of a model with a head, such as `model.`. It is optional."""
    ignored: ClassVar[str] = r"(?!)"
    """Regular expression that matches the full names, without prefix, of tensors to skip, such as saved masks."""
    no_effect: ClassVar[frozenset[str]] = frozenset()
    """Settings of the family, besides `settings.NO_EFFECT`, that do not change the logits."""

    gguf: ClassVar[tuple[type[GgufArchitecture], ...]] = ()
    """Descriptions of the GGUF files of the family. Empty: llama.cpp has no architecture for it."""

    config: Config

    def __init__(self, config: Config):
        self.config = config

    def spec(self, settings: Settings) -> dict[str, Any]:
        """Translate the settings of config.json into a model spec, as JSON.

        Read every setting that changes the logits. The import fails if a setting is neither read nor listed in
        `no_effect`.
        """
        raise TypeError(f"{type(self).__name__} does not implement spec")

    def weights(self, spec: ModelSpec) -> Iterator[Weight]:
        """Yield a `Weight` for each tensor of the model that `spec` describes."""
        raise TypeError(f"{type(self).__name__} does not implement weights")

    def tokenizer(self, spec: ModelSpec) -> str | dict[str, Any] | None:
        """Return the tokenizer, as in a spec, to use if the checkpoint has no tokenizer.json. None if it is unknown."""
        return None
