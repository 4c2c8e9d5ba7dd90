"""The models of a server, each under its name and with a scheduler of its own."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

from gptzoo.errors import InputError
from gptzoo.serving.errors import RequestError
from gptzoo.serving.request_builder import RequestBuilder
from gptzoo.serving.scheduler import Scheduler


@dataclass(frozen=True)
class ServedModel:
    """One model of a server."""

    name: str
    scheduler: Scheduler
    builder: RequestBuilder
    created: int = field(default_factory=lambda: int(time.time()))

    @property
    def card(self) -> dict[str, Any]:
        """The entry of the model in /v1/models."""
        return {
            "id": self.name,
            "object": "model",
            "created": self.created,
            "owned_by": "gptzoo",
            "max_model_len": self.builder.limits.max_length,
            "no_chat_reason": self.builder.no_chat_reason,
        }


class ServedModels:
    """The models of a server by name, in the order in which they are listed."""

    def __init__(self, models: Sequence[ServedModel]):
        check_names([model.name for model in models])
        self.by_name = {model.name: model for model in models}
        self.max_body = max(model.builder.limits.max_body for model in models)

    def __iter__(self) -> Iterator[ServedModel]:
        return iter(self.by_name.values())

    @contextmanager
    def running(self) -> Iterator[None]:
        """Run the threads of all models while the block is open."""
        with ExitStack() as threads:
            for model in self:
                threads.enter_context(model.scheduler)
            yield

    def find(self, name: str | None) -> ServedModel:
        """Return a model by name. Without a name, return the only one.

        Raises RequestError for an unknown name (404), and without a name if there are several models (400).
        """
        if name is None:
            if len(self.by_name) > 1:
                message = f"this server has several models: name one of {self._names()}"
                raise RequestError(400, message, param="model")
            return next(iter(self))
        if name not in self.by_name:
            message = f"no model {name!r}; this server has {self._names()}"
            raise RequestError(404, message, param="model", code="model_not_found")
        return self.by_name[name]

    def _names(self) -> str:
        return ", ".join(map(repr, self.by_name))


def check_names(names: Sequence[str]) -> None:
    """Raise InputError if two models have one name, or if one has none."""
    if "" in names:
        raise InputError("a model needs a name that is not empty. Give one with --name.")
    if repeated := next((name for name in names if names.count(name) > 1), None):
        raise InputError(
            f"{names.count(repeated)} models have the name {repeated!r}, and clients choose a model by its name. Give "
            f"names with --name, one for each RUN in their order, such as --name {repeated}-a --name {repeated}-b"
        )
