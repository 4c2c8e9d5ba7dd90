"""Token stores of corpora that generate samples: there is nothing to tokenize or to cache."""

from __future__ import annotations

import hashlib
import json
from typing import cast

import numpy as np

from gptzoo.component import Config
from gptzoo.data.corpora.samples import SampleCorpus
from gptzoo.data.token_store import SPLITS, SampleSource, TokenStore
from gptzoo.data.tokenizers.tokenizer import Tokenizer
from gptzoo.errors import DataError
from gptzoo.utils.targets import IGNORED_TARGET


def open_samples(corpus: SampleCorpus, tokenizer_config: Config) -> tuple[Tokenizer, TokenStore]:
    """Return the tokenizer of the samples' text form, and a store that refers to the corpus.

    Raises DataError for a tokenizer that does not map the corpus's characters to its token ids.
    """
    alphabet = corpus.alphabet()
    tokenizer_class = cast("type[Tokenizer]", tokenizer_config.component)
    tokenizer: Tokenizer = tokenizer_config.build(tokenizer_class.fit(tokenizer_config, [alphabet]))
    if not _maps_to_ids(tokenizer, alphabet):
        raise DataError(
            f"corpus {corpus.config.type!r}: tokenizer {tokenizer_config.type!r} does not map its {len(alphabet)} "
            f"characters to the ids 0 to {len(alphabet) - 1}. Use tokenizer 'char', or evaluate a model that was "
            "trained on this corpus with the same vocabulary"
        )
    fingerprint = corpus.fingerprint()
    held_out = corpus.held_out_digest()
    store = TokenStore(
        train=np.empty(0, dtype=np.uint16),
        val=np.empty(0, dtype=np.uint16),
        spans={split: np.empty((0, 2), dtype=np.int64) for split in SPLITS},
        n_bytes=dict.fromkeys(SPLITS, 0),
        vocab_size=tokenizer.vocab_size,
        fingerprint=hashlib.sha256(json.dumps([fingerprint, tokenizer.fingerprint()]).encode()).hexdigest(),
        texts={"train": fingerprint, "val": held_out},
        ids={"train": fingerprint, "val": held_out},
        samples=SampleSource(corpus),
    )
    return tokenizer, store


def bytes_of_targets(targets: np.ndarray, tokenizer: Tokenizer) -> int:
    """Return the UTF-8 bytes of the targets that count."""
    return len(tokenizer.decode_bytes(targets[targets != IGNORED_TARGET].tolist()))


def _maps_to_ids(tokenizer: Tokenizer, alphabet: str) -> bool:
    try:
        return list(tokenizer.encode_continuation(alphabet)) == list(range(len(alphabet)))
    except DataError:
        return False
