"""The corpus `stories`: small English stories from a generator that ships with gptzoo, so that a run needs no file.

Almost every sentence depends on the order of earlier ones: lists are said back, undone from the end and asked about,
things change hands, made-up words must be read rather than known. So even a tiny model that sees a short context
learns more when it knows where things stood, which is what makes these stories fit to compare architectures.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterator
from typing import Any

from pydantic import Field, NonNegativeInt

from gptzoo.data.corpora.corpus import Corpus, Split
from gptzoo.data.corpora.story_grammar.plots import tell

_VERSION = 1  # raise it with every change of a word or a plot: the fingerprint stands for the text
_VAL_SHARE = 20  # one story in so many is held out


class StoriesCorpus(Corpus):
    """Generated stories, about 700 characters each, the same on every machine; needs no file and no network."""

    name = "stories"

    class Config(Corpus.Config):
        n_stories: int = Field(4000, ge=2, lt=2**31)
        """Stories in all; one in twenty is for validation, and no story is in both. 4000 are 2.7 MB."""
        seed: NonNegativeInt = 1
        """Which stories. It is the text's own: the `seed` of a run does not change it."""

    config: Any

    def documents(self, split: Split) -> Iterator[str]:
        n_val = max(1, self.config.n_stories // _VAL_SHARE)
        # Odd numbers are held out. Two numbers could still tell one story, so training skips what is held out.
        held_out = [tell(self._number(2 * index + 1)) for index in range(n_val)]
        if split == "val":
            yield from held_out
            return
        hidden = set(held_out)
        told = (tell(self._number(2 * index)) for index in itertools.count())
        yield from itertools.islice((story for story in told if story not in hidden), self.config.n_stories - n_val)

    def _number(self, index: int) -> int:
        return self.config.seed * 2**40 + index  # seeds have no story numbers in common

    def fingerprint(self) -> str:
        parts = (self.config.type, _VERSION, self.config.n_stories, self.config.seed)
        return hashlib.sha256("/".join(map(str, parts)).encode()).hexdigest()
