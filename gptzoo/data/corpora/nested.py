"""References to corpora that are parts of other corpora, which are documents of text."""

from __future__ import annotations

from typing import Any

from gptzoo.component import Component, Config
from gptzoo.reference import Reference
from gptzoo.strict_model import option_error


class NestedCorpus(Reference):
    """A `Reference` to a corpus that provides documents."""

    def __init__(self) -> None:
        super().__init__("corpus")

    def accepts(self, component: type[Component]) -> bool:
        return getattr(component, "provides", None) == "documents"

    def validate(self, value: object, context: dict[str, Any] | None = None) -> Config:
        config = super().validate(value, context)
        if not self.accepts(config.component):
            raise option_error(
                f"corpus {config.type!r} generates samples and has no documents of text, so it cannot be a part of "
                "another corpus. Use it as the corpus of a run"
            )
        return config
