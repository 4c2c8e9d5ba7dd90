"""What a corpus owes: the same documents each time, and a fingerprint that stands for them."""

from __future__ import annotations

import itertools
from typing import Any

from gptzoo.component import Config
from gptzoo.testing.properties.assembly.options import other_values
from gptzoo.testing.subject import Subject
from gptzoo.testing.verdict import Failed

N_DOCUMENTS = 100  # of a split are looked at


def documents(subject: Subject) -> None:
    """Both splits hold text; each time they are asked they give the same documents in the same order."""
    corpus, again = subject.config.build(), subject.config.build()
    for split in ("train", "val"):
        found = _documents(corpus, split)
        if not found:
            raise Failed(f"the {split} split is empty")
        for index, document in enumerate(found):
            if not isinstance(document, str) or not document:
                raise Failed(f"document {index} of the {split} split is {document!r}, not text")
        for what, other in (("asked twice", corpus), ("built twice", again)):
            if _documents(other, split) != found:
                raise Failed(f"{what}, the {split} split gives other documents")


def fingerprint(subject: Subject) -> None:
    """The fingerprint is the same each time, and another where an option changes the documents."""
    own = subject.config.build().fingerprint()
    corpus = subject.config.build()
    for what in ("built", "asked"):
        if corpus.fingerprint() != own:
            raise Failed(f"{what} twice, it gives two fingerprints")
    here = behaviour(subject.config)
    for name in type(subject.config).model_fields:
        for value, config in itertools.islice(other_values(subject, name), 2):
            if behaviour(config) != here and config.build().fingerprint() == own:
                raise Failed(f"{name}={value!r} changes the documents, but not the fingerprint")


def behaviour(config: Config) -> dict[str, Any]:
    """What options could change."""
    corpus = config.build()
    return {split: _documents(corpus, split) for split in ("train", "val")}


def _documents(corpus: Any, split: str) -> list[str]:
    return list(itertools.islice(corpus.documents(split), N_DOCUMENTS))
