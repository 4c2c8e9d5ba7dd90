"""The kind `importer`: what one family of checkpoints of Hugging Face `transformers` is in gptzoo's terms.

class Mistral(gptzoo.Importer):
    '''Mistral: Llama with a sliding window.'''
    name = "mistral"                       # the "model_type" of its config.json

    def spec(self, settings):              # the settings of config.json -> a model spec, as JSON
        return {"d_model": settings.count("hidden_size", 4096), ...}

    def weights(self, spec):               # which tensor of the checkpoint is which of ours
        yield Weight("embed.weight", "embed_tokens.weight")
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from gptzoo.component import Component, Config
from gptzoo.interop.settings import Settings
from gptzoo.spec.model import ModelSpec


def stacked(*tensors: Tensor) -> Tensor:
    """One below the other: the rows of fused projections. A single tensor stays as it is."""
    return tensors[0] if len(tensors) == 1 else torch.cat(tensors)


def transposed(tensor: Tensor) -> Tensor:
    return tensor.t()


@dataclass(frozen=True)
class Weight:
    """One tensor of the model, and the tensors of the checkpoint that it is made of."""

    name: str
    """In the state dict of the gptzoo model."""
    sources: str | tuple[str, ...]
    """In the checkpoint, without the family's `prefix`."""
    convert: Callable[..., Tensor] = stacked
    """Sources, in order, -> the tensor. It runs on the meta device first, to compare shapes before values are read."""
    copies: tuple[str, ...] = ()
    """Where a checkpoint may hold the one source again; the values must be the same (tied embeddings)."""

    @property
    def all_sources(self) -> tuple[str, ...]:
        return (self.sources,) if isinstance(self.sources, str) else self.sources


class Importer(Component):
    """Base of the kind. `name` is the family's `model_type`."""

    kind = "importer"

    prefix: ClassVar[str] = ""
    """What the names of tensors may begin with: the base model inside a model with a head."""
    ignored: ClassVar[str] = r"(?!)"
    """A regular expression for the whole name, without prefix, of tensors that are no weights, such as saved masks."""
    no_effect: ClassVar[frozenset[str]] = frozenset()
    """Settings of this family, beside `settings.NO_EFFECT`, that leave logits as they are."""

    config: Any

    def __init__(self, config: Config):
        self.config = config

    def spec(self, settings: Settings) -> dict[str, Any]:
        """The model spec, as JSON, of a config.json. It looks at every setting that changes what the model computes."""
        raise TypeError(f"{type(self).__name__} does not implement spec")

    def weights(self, spec: ModelSpec) -> Iterator[Weight]:
        """Every tensor of the model that `spec` describes, each once."""
        raise TypeError(f"{type(self).__name__} does not implement weights")

    def tokenizer(self, spec: ModelSpec) -> Any:
        """The reference to the tokenizer that a checkpoint without tokenizer.json was surely trained with, or None."""
        return None
