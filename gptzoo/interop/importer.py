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

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from gptzoo.component import Component, Config
from gptzoo.interop.exporting.common_settings import common_settings
from gptzoo.interop.gguf.architecture import GgufArchitecture
from gptzoo.interop.settings import Settings
from gptzoo.spec.model import ModelSpec


def concatenate(*tensors: Tensor) -> Tensor:
    """Concatenate tensors along dimension 0, as fused projections hold them. Return a single tensor unchanged."""
    return tensors[0] if len(tensors) == 1 else torch.cat(tensors)


def transpose(tensor: Tensor) -> Tensor:
    """Transpose a matrix, such as the weight of a `Conv1D`."""
    return tensor.t()


Shape = tuple[int, ...]


def equal_shares(shape: Shape, weight: Weight) -> Sequence[Shape]:
    """Return the shapes of sources that have the same number of rows each."""
    n = len(weight.source_names)
    return [shape] * n if n == 1 else [(shape[0] // n, *shape[1:])] * n


def source_rows(*counts: int) -> Callable[[Shape, Weight], Sequence[Shape]]:
    """Return the `shapes` of sources with these numbers of rows. Their other dimensions are those of the tensor."""
    return lambda shape, weight: [(count, *shape[1:]) for count in counts]


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
    shapes: Callable[[Shape, Weight], Sequence[Shape]] = equal_shares
    """Function from the shape of the tensor to the shapes of its sources, for export.

    Default: equal shares of dimension 0. A single source may also have the reversed shape, as with `transpose`.
    `source_rows` gives sources other numbers of rows.
    """
    inverse: Callable[[Tensor], Tensor | tuple[Tensor, ...]] | None = None
    """Function from the tensor to its sources, for export. Only a `convert` that computes needs it, such as weight + 1.

    A `convert` that moves elements is inverted automatically. It may drop elements, which are exported as 0.
    """

    @property
    def source_names(self) -> tuple[str, ...]:
        """`sources` as a tuple, also if it is a single name."""
        return (self.sources,) if isinstance(self.sources, str) else self.sources


class Importer(Component):
    """Base class of importers. `name` is the `model_type` of the family."""

    kind = "importer"

    prefix: ClassVar[str] = ""
    """Prefix of the base model's tensors in a checkpoint of a model with a head, such as `model.`. It is optional."""
    head: ClassVar[str] = "lm_head"
    """Name of the output head, whose tensors have no prefix."""
    architecture: ClassVar[str] = ""
    """Class in transformers of the model with a head, such as `LlamaForCausalLM`. Export needs it."""
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

    def settings(self, spec: ModelSpec) -> dict[str, Any]:
        """Return settings of config.json for `spec`, whose components are canonical: the reverse of `spec`, for export.

        They are a proposal. Settings that `spec` does not read or rejects are dropped, and the family is refused unless
        `spec` turns the others into the same spec again. So the result may hold too much, and need not check anything.
        If the spec lacks a part, any exception of Python may be raised.
        Default: the settings that most families have in common, under all of their names.
        """
        return common_settings(spec)

    def weights(self, spec: ModelSpec) -> Iterator[Weight]:
        """Yield a `Weight` for each tensor of the model that `spec` describes."""
        raise TypeError(f"{type(self).__name__} does not implement weights")

    def tokenizer(self, spec: ModelSpec) -> str | dict[str, Any] | None:
        """Return the tokenizer, as in a spec, to use if the checkpoint has no tokenizer.json. None if it is unknown."""
        return None
