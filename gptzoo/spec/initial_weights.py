"""`InitSpec`: the trained weights that a run starts from, and what happens to the tensors that they lack."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

from pydantic import BeforeValidator, Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from gptzoo.spec.paths import PathOption
from gptzoo.strict_model import StrictModel, option_error

_Pattern = Annotated[str, Field(min_length=1)]


class InitSpec(StrictModel):
    """Initial weights from trained models. A path alone stands for `{"path": PATH}`."""

    path: PathOption | None = None
    """Path of a run, checkpoint or model folder. Default: random initialisation of all tensors but those of `parts`."""
    partial: bool = False
    """Take over only the tensors whose name and shape the model has, and initialise the others. Default: weights that
    do not fit the model are an error."""
    parts: Mapping[_Pattern, PathOption | None] = {}
    """Source of single parts: glob patterns of modules or tensors, such as `blocks.*.ffn`, each with the path of a run,
    checkpoint or model folder, or null to initialise the part. `*` matches no dots, `**` matches them. A part
    must fit as a whole."""

    @property
    def is_plain(self) -> bool:
        """True if the weights are those of a single model with the same tensors."""
        return self.path is not None and not self.partial and not self.parts

    @model_validator(mode="after")
    def _check(self) -> InitSpec:
        if self.path is None and not any(self.parts.values()):
            raise option_error("names no weights. Give a path, or a path in parts")
        return self

    @model_serializer(mode="wrap")
    def _serialize(self, serialize: SerializerFunctionWrapHandler) -> object:
        return self.path if self.is_plain else serialize(self)


def _from_path(value: object) -> object:
    if not isinstance(value, str | dict | InitSpec | None):
        raise option_error("should be a path, or an object with path, partial and parts")
    return {"path": value} if isinstance(value, str) else value


InitOption = Annotated[
    InitSpec | None, BeforeValidator(_from_path, json_schema_input_type=PathOption | InitSpec | None)
]
"""The type of the option `init_from`: an `InitSpec`, or the path that stands for one."""
