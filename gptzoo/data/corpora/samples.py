"""The base class of corpora of samples: token ids that are generated, with a target for some of them."""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, ClassVar, Literal, NamedTuple

import numpy as np
from pydantic import Field, NonNegativeInt, PositiveInt, ValidationError, model_validator

from gptzoo.data.corpora.corpus import Corpus, Split
from gptzoo.data.corpora.draws import Draws
from gptzoo.errors import DataError
from gptzoo.strict_model import errors_below, option_error
from gptzoo.utils.targets import IGNORED_TARGET

_HELD_OUT = 0.25  # share of all contents that only held-out samples have
_MAX_ATTEMPTS = 200  # to draw content of a split; all fail with probability 0.75 ** 200
# A line break, then characters that every version of Unicode has: ASCII without the space, CJK ideographs, Hangul.
_CHARACTERS = "\n" + "".join(map(chr, [*range(0x21, 0x7F), *range(0x4E00, 0x9FA6), *range(0xAC00, 0xD7A4)]))
_RESERVED_LEVELS = frozenset({"loss", "perplexity", "bits_per_byte", "ema_loss"})  # metrics of the main evaluation
# A level with another seed would divide a finite set of samples, such as that of modular addition, in another way, and
# have training samples among its held-out ones.
_SHARED_BY_LEVELS = frozenset({"type", "seed", "n_train", "levels"})

LevelName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]


class Sample(NamedTuple):
    """The inputs of one sample, and the token that each position should predict."""

    tokens: np.ndarray  # (T,) int64
    targets: np.ndarray  # (T,) int64; IGNORED_TARGET where nothing is asked

    @classmethod
    def asking(cls, tokens: np.ndarray, positions: np.ndarray, answers: np.ndarray) -> Sample:
        """Return a sample whose targets are `answers` at `positions`, and ignored elsewhere."""
        targets = np.full(len(tokens), IGNORED_TARGET, dtype=np.int64)
        targets[positions] = answers
        return cls(tokens, targets)


class SampleCorpus(Corpus):
    """Base class of corpora of samples, such as synthetic tasks. A sample is a function of seed, split and number.

    A subclass implements `vocab_size`, `sample_length`, `chance` and `generate`. Token 0 is a line break in text, and
    suits padding or a blank. The content of a sample determines its split: a quarter of all contents, chosen by hash,
    is held out whatever the seed and the options are. So no training sample is a held-out sample.
    """

    provides: ClassVar[Literal["documents", "samples"]] = "samples"
    default_tokenizer = "char"
    default_batching = "samples"
    revision: ClassVar[int] = 1
    """Revision of the generator. Raise it with every change of the samples: it stands for them in the fingerprint."""
    metric_names: ClassVar[tuple[str, ...]] = ("accuracy",)
    """Names of the metrics that `hits` returns."""

    class Config(Corpus.Config):
        n_train: PositiveInt = 100_000
        """Number of training samples. Each epoch visits all of them, in another order."""
        n_val: PositiveInt = 1000
        """Number of held-out samples, and of the samples of each level."""
        seed: NonNegativeInt = 1
        """Random seed for the samples, independent of the `seed` of a run."""
        levels: dict[LevelName, dict[str, Any]] = {}
        """Levels of difficulty for evaluation, by name, each with the options that differ from these:
        {"long": {"length": 256}}. The seed is the same. The metrics of a level are `val/<name>/loss` and
        `val/<name>/accuracy`."""

        @model_validator(mode="after")
        def _check_levels(self) -> SampleCorpus.Config:
            assert issubclass(self.component, SampleCorpus)
            for name, options in self.levels.items():
                if name in {*_RESERVED_LEVELS, *self.component.metric_names}:
                    raise option_error(f"levels: {name!r} is the name of a metric. Choose another name")
                if fixed := options.keys() & _SHARED_BY_LEVELS:
                    raise option_error(f"levels: {name}: cannot set {', '.join(sorted(fixed))}, which all levels share")
                try:
                    level = self.level(name)
                except ValidationError as error:
                    raise ValidationError.from_exception_data(
                        type(self).__name__, errors_below(error, "levels", name)
                    ) from None
                ours, theirs = (config.build().vocab_size for config in (self, level))
                if ours != theirs:
                    reason = f"levels: {name}: has {theirs} tokens and the training samples {ours}. They must be equal"
                    raise option_error(reason)
            return self

        def level(self, name: str) -> SampleCorpus.Config:
            """Return the config of a level."""
            own = {key: value for key, value in self.model_dump(mode="json").items() if key != "levels"}
            level: SampleCorpus.Config = type(self).model_validate({**own, **self.levels[name]})
            return level

    config: Config

    @property
    def vocab_size(self) -> int:
        """Number of token ids."""
        raise TypeError(f"{type(self).__name__} does not implement vocab_size")

    @property
    def sample_length(self) -> int:
        """Number of tokens in each sample."""
        raise TypeError(f"{type(self).__name__} does not implement sample_length")

    @property
    def chance(self) -> Mapping[str, float]:
        """Expected metrics of the best predictor that sees no context, only the token at the position asked."""
        raise TypeError(f"{type(self).__name__} does not implement chance")

    def generate(self, draws: Draws) -> Sample:
        """Return the sample that random draws determine."""
        raise TypeError(f"{type(self).__name__} does not implement generate")

    def n_samples(self, split: Split) -> int:
        """Return the number of samples of a split."""
        return self.config.n_train if split == "train" else self.config.n_val

    def sample(self, split: Split, index: int) -> Sample:
        """Return a sample of a split. Raises DataError if the options leave no content to this split."""
        for attempt in range(_MAX_ATTEMPTS):
            sample = self.generate(Draws(self.config.type, self.config.seed, split, index, attempt))
            if has_held_out_content(sample) == (split == "val"):
                return sample
        raise DataError(
            f"corpus {self.config.type!r}: its options allow too few different samples to divide them into training "
            "and held-out samples. Use a larger vocabulary or longer samples"
        )

    @functools.cached_property
    def held_out_samples(self) -> tuple[Sample, ...]:
        """All held-out samples."""
        return tuple(self.sample("val", index) for index in range(self.n_samples("val")))

    def hits(self, sample: Sample, predictions: np.ndarray) -> Mapping[str, tuple[int, int]]:
        """Return (number right, number asked) by metric, for the predicted tokens (T,) of a sample."""
        asked = sample.targets != IGNORED_TARGET
        return {"accuracy": (int((predictions == sample.targets)[asked].sum()), int(asked.sum()))}

    def evaluation_sets(self) -> Mapping[str, Corpus]:
        return {name: self.config.level(name).build() for name in self.config.levels}

    def documents(self, split: Split) -> Iterator[str]:
        raise DataError(
            f"corpus {self.config.type!r} generates samples and has no documents of text, so it cannot be a part of "
            "another corpus. Use it as the corpus of a run"
        )

    def fingerprint(self) -> str:
        return _digest(self, ("levels",))

    def held_out_digest(self) -> str:
        """Return a digest of everything that determines the held-out samples."""
        return _digest(self, ("levels", "n_train"))

    def alphabet(self) -> str:
        """Return one character for each token id, in code point order: the text form of the samples."""
        if self.vocab_size > len(_CHARACTERS):
            raise DataError(
                f"corpus {self.config.type!r}: {self.vocab_size} token ids are more than the {len(_CHARACTERS)} "
                "characters that stand for them in text. Use a smaller vocabulary"
            )
        return _CHARACTERS[: self.vocab_size]


def has_held_out_content(sample: Sample) -> bool:
    """Return True if the content of a sample, by its hash, belongs to the held-out split."""
    digest = hashlib.blake2b(sample.tokens.astype("<i8").tobytes(), digest_size=8).digest()
    return int.from_bytes(digest, "little") < _HELD_OUT * 2**64


def _digest(corpus: SampleCorpus, without: tuple[str, ...]) -> str:
    options = corpus.config.model_dump(mode="json", exclude=set(without))
    return hashlib.sha256(json.dumps([corpus.revision, options], sort_keys=True).encode()).hexdigest()
