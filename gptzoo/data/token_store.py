"""Tokens on disk, read by memory mapping. `gptzoo.data.prepare` writes them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, get_args

import numpy as np

from gptzoo.data.corpora.corpus import Split
from gptzoo.data.corpora.samples import SampleCorpus
from gptzoo.data.file_checksums import BackgroundCheck, file_sha256
from gptzoo.data.held_out import Overlap
from gptzoo.data.tokenizers.tokenizer import load_tokenizer

SPLITS = get_args(Split)
FILES = ("train.bin", "train.spans.bin", "val.bin", "val.spans.bin", "tokenizer.json")
"""The files of a store, besides its index."""


@dataclass(frozen=True)
class SampleSource:
    """The samples of a corpus that generates them, and the split that evaluations read."""

    corpus: SampleCorpus
    held_out: Split = "val"

    @property
    def n_held_out(self) -> int:
        """Number of samples that evaluations read."""
        return self.corpus.n_samples(self.held_out)


@dataclass(frozen=True)
class TokenStore:
    """The memory-mapped token ids of both splits, with `Tokenizer.separator` between documents."""

    train: np.ndarray  # uint16 or uint32
    val: np.ndarray
    spans: dict[str, np.ndarray]  # split -> int64 (n, 2): begin and end of each document
    n_bytes: dict[str, int]  # split -> UTF-8 bytes of its documents, without separators
    vocab_size: int
    fingerprint: str  # digest of the ids and the tokenizer
    folder: Path | None = None
    texts: dict[str, str] | None = None  # split -> digest of its documents; None if an older version wrote the store
    ids: dict[str, str] | None = None  # split -> digest of its token ids
    overlap: Overlap | None = None  # of held-out and training text; None if an older version wrote the store
    samples: SampleSource | None = None  # of a corpus of samples; the text is then empty


def check_in_background(store: TokenStore) -> BackgroundCheck:
    """Read the token ids of a store in full in another thread, if it is so large that its checksums were trusted."""
    if store.folder is None or store.ids is None:
        return BackgroundCheck({})
    return BackgroundCheck({store.folder / f"{split}.bin": digest for split, digest in store.ids.items()})


def open_store(folder: Path) -> TokenStore | None:
    """Open the store in a folder that `prepare` filled, or return None if a file is missing or its checksum differs."""
    try:
        index = json.loads((folder / "index.json").read_text(encoding="utf-8"))
        contents = {key: value for key, value in index.items() if key != "checksum"}
        if "checksum" in index and index["checksum"] != index_checksum(contents):  # older versions wrote none
            return None
        # This detects corrupted tokens before training.
        if any(index["sha256"][name] != file_sha256(folder / name) for name in FILES):
            return None
        dtype = np.dtype(index["dtype"])
        text = index.get("text")
        spans = {split: _map_file(folder / f"{split}.spans.bin", np.dtype("<i8")).reshape(-1, 2) for split in SPLITS}
        return TokenStore(
            train=_map_file(folder / "train.bin", dtype),
            val=_map_file(folder / "val.bin", dtype),
            spans=spans,
            n_bytes=index["n_bytes"] if text else _without_separators(index["n_bytes"], spans, folder),
            vocab_size=index["vocab_size"],
            fingerprint=hashlib.sha256(json.dumps(index["sha256"], sort_keys=True).encode()).hexdigest(),
            folder=folder,
            texts=None if text is None else text["sha256"],
            ids={split: index["sha256"][f"{split}.bin"] for split in SPLITS},
            overlap=None if text is None else Overlap.from_record(text["overlap"]),
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None


def _without_separators(n_bytes: dict[str, int], spans: dict[str, np.ndarray], folder: Path) -> dict[str, int]:
    """Return the bytes of the documents of a store whose counts include the text of the separators."""
    tokenizer = load_tokenizer(folder / "tokenizer.json")
    n_separator = len(tokenizer.decode_bytes(list(tokenizer.separator())))
    return {split: n_bytes[split] - n_separator * max(0, len(spans[split]) - 1) for split in SPLITS}


def text_record(texts: dict[str, str], overlap: Overlap) -> dict[str, Any]:
    """Return the entry of the index about the text: the digest of each split, and the overlap of the splits."""
    return {"sha256": texts, "overlap": asdict(overlap)}


def index_checksum(index: Mapping[str, object]) -> str:
    """Return the checksum of the index of a store, which has the sizes and checksums of its files."""
    return hashlib.sha256(json.dumps(index, sort_keys=True).encode()).hexdigest()


def _map_file(file: Path, dtype: np.dtype) -> np.ndarray:
    return np.memmap(file, dtype, mode="r")
