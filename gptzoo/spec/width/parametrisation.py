"""`Parametrisation`, the field of a model spec that makes good learning rates independent of the width."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Literal

from pydantic import ValidationError, model_validator
from pydantic_core import InitErrorDetails

from gptzoo.strict_model import StrictModel, error_at

NO_WIDTH_RULE = (
    "does not say how its learning rate changes with the width, which parametrisation 'mup' needs. Use adamw, lion, "
    "sgd, adafactor or muon, or set `width_rule` in the class of the optimizer"
)
"""The rest of an error about an optimizer."""

_REQUIRED = ("d_model", "n_heads")
_NOT_WIDTHS = ("spec_version", "name", "vocab_size", "context_length", "n_layers", "tie_embeddings", "parametrisation")


class Parametrisation(StrictModel):
    """Maximal update parametrisation (muP, arXiv:2203.03466): hyperparameters of a small model suit wider ones.

    All options of the run, such as the learning rate and `init_std`, have the meaning that they have at the base width.
    At the base width nothing changes.
    """

    type: Literal["mup"] = "mup"
    """Name of the parametrisation."""
    base: dict[str, Any]
    """Fields of the model at the base width, the width at which learning rates are tuned: `d_model`, `n_heads`, and
    every other width that is smaller there, such as `ffn.d_ff`. All other fields are those of the model."""

    @model_validator(mode="after")
    def _check_base(self) -> Parametrisation:
        if errors := list(self._problems()):
            raise ValidationError.from_exception_data("Parametrisation", errors)
        return self

    def __hash__(self) -> int:
        return hash((self.type, json.dumps(self.base, sort_keys=True)))

    def _problems(self) -> Iterator[InitErrorDetails]:
        for name in _REQUIRED:
            if name not in self.base:
                reason = (
                    'is required. Give d_model and n_heads of the base width, such as {"d_model": 64, "n_heads": 4}: '
                    "the same n_heads as the model if heads get wider, fewer if the number of heads grows"
                )
                yield error_at(reason, "base", name)
        for key in self.base:
            if key.partition(".")[0] in _NOT_WIDTHS:
                yield error_at("is not a width. The base may differ from the model in widths only", "base", key)
