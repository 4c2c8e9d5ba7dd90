"""The corpus `stories`: short English stories from a built-in generator, so that a run needs no data file.

Almost every sentence depends on the order of earlier ones: characters repeat lists, reverse them and ask about them,
objects change owners, and invented words cannot be memorised. Even a tiny model with a short context predicts better
when it uses word order, which makes these stories suitable for comparing architectures.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterator

from pydantic import Field, NonNegativeInt

from gptzoo.data.corpora.corpus import Corpus, Split
from gptzoo.data.corpora.story_grammar.plots import generate_story

_VERSION = 1  # raise it with every change of a word or a plot: it stands for the text in the fingerprint
_VAL_EVERY = 20  # one story in 20 is held out


class StoriesCorpus(Corpus):
    """Stories of about 700 characters from a built-in generator, identical on every machine, without files."""

    name = "stories"

    class Config(Corpus.Config):
        n_stories: int = Field(default=4000, ge=2, lt=2**31)
        """Number of stories. One in 20 is held out, and no story is in both splits. 4000 stories are 2.7 MB."""
        seed: NonNegativeInt = 1
        """Random seed for the stories, independent of the `seed` of a run."""

    config: Config

    def documents(self, split: Split) -> Iterator[str]:
        n_val = max(1, self.config.n_stories // _VAL_EVERY)
        # Odd numbers are held out. Two numbers can give the same story, so training skips all held-out stories.
        held_out = [generate_story(self._story_seed(2 * index + 1)) for index in range(n_val)]
        if split == "val":
            yield from held_out
            return
        held_out_set = set(held_out)
        stories = (generate_story(self._story_seed(2 * index)) for index in itertools.count())
        train = (story for story in stories if story not in held_out_set)
        yield from itertools.islice(train, self.config.n_stories - n_val)

    def _story_seed(self, index: int) -> int:
        return self.config.seed * 2**40 + index  # different corpus seeds share no story seed

    def fingerprint(self) -> str:
        parts = (self.config.type, _VERSION, self.config.n_stories, self.config.seed)
        return hashlib.sha256("/".join(map(str, parts)).encode()).hexdigest()
