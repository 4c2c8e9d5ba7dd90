"""Broken tokenizers and corpora, each with one fault that somebody has made before."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, ClassVar

from pydantic import PositiveInt

import gptzoo
from gptzoo.data.tokenizers.byte import ByteTokenizer
from gptzoo.data.tokenizers.byte_level import byte_level_json


class LowerCase(gptzoo.Tokenizer):
    """Encodes upper-case letters as lower-case ones."""

    name = "lower_case"
    vocab_size = 256
    eot = None

    def encode(self, text: str) -> list[int]:
        return list(text.lower().encode())

    def decode_bytes(self, ids: Sequence[int]) -> bytes:
        return bytes(self.check_ids(ids))


class EotOutsideVocabulary(LowerCase):
    """Has an end-of-text id that is outside its vocabulary."""

    name = "eot_outside_vocabulary"
    eot = 256


class StateIsNotJson(LowerCase):
    """Has a set as its state."""

    name = "state_is_not_json"

    @classmethod
    def fit(cls, config: Any, texts: Iterable[str]) -> object:
        return {character for text in texts for character in text}


class ExportsOtherIds(ByteTokenizer):
    """Has a tokenizer.json whose ids are those of bytes in the reverse order."""

    name = "exports_other_ids"

    def tokenizer_json(self) -> dict[str, Any]:
        return byte_level_json({bytes([byte]): 255 - byte for byte in range(256)}, {"<|endoftext|>": 256}, None)


class ExportsNoEndOfText(ByteTokenizer):
    """Has a tokenizer.json without its end-of-text token."""

    name = "exports_no_end_of_text"

    def tokenizer_json(self) -> dict[str, Any]:
        return byte_level_json({bytes([byte]): byte for byte in range(256)}, {}, None)


class ShuffledEveryTime(gptzoo.Corpus):
    """Shuffles its documents on every call."""

    name = "shuffled_every_time"

    class Config(gptzoo.Corpus.Config):
        n_documents: PositiveInt = 20

    config: Config

    def documents(self, split: str) -> Iterator[str]:
        yield from random.sample([f"{split} {index}" for index in range(self.config.n_documents)], k=10)

    def fingerprint(self) -> str:
        return hashlib.sha256(str(self.config.n_documents).encode()).hexdigest()


class FingerprintIgnoresOptions(ShuffledEveryTime):
    """Returns its name as the fingerprint, whatever its options are."""

    name = "fingerprint_ignores_options"

    def documents(self, split: str) -> Iterator[str]:
        yield from (f"{split} {index}" for index in range(self.config.n_documents))

    def fingerprint(self) -> str:
        return self.name


class TargetOutsideVocabulary(gptzoo.SampleCorpus):
    """Asks for a token id that follows the last one of the vocabulary."""

    name = "target_outside_vocabulary"
    vocab_size = 5
    sample_length = 6
    chance: ClassVar = {"accuracy": 0.2}

    def generate(self, draws: gptzoo.Draws) -> gptzoo.Sample:
        tokens = draws.below(5, 6)
        return gptzoo.Sample(tokens, tokens + 1)
