"""The corpus `tinystories`: short stories in the words of a small child, written by GPT-3.5 and GPT-4."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Literal

from pydantic import Field

from gptzoo.data.corpora.corpus import Split
from gptzoo.data.corpora.presets.hub_corpus import HubCorpus
from gptzoo.data.utf8 import open_binary
from gptzoo.errors import DataError

_END = b"<|endoftext|>"  # on a line of its own after each story


class TinyStoriesCorpus(HubCorpus):
    """TinyStories: 2.1 million short stories in simple words, with the validation split of the dataset.

    Source: https://huggingface.co/datasets/roneneldan/TinyStories. License: CDLA-Sharing-1.0. Needs `huggingface_hub`
    and, for `v1`, `pyarrow`.
    """

    name = "tinystories"
    paper = "Eldan and Li 2023, TinyStories, arXiv:2305.07759"
    repository = "roneneldan/TinyStories"
    license = "CDLA-Sharing-1.0"

    class Config(HubCorpus.Config):
        subset: Literal["v1", "v2"] = "v1"
        """`v1`: 2,119,719 stories by GPT-3.5 and GPT-4, as `load_dataset` reads them (1 GB of Parquet files). `v2`:
        only stories by GPT-4, more of them (2.3 GB of text)."""
        revision: str = Field(default="f54c09fd23315a6f9c86f9dc80f725de7d8f9c64", min_length=1)
        """Commit, tag or branch of the repository. Default: the commit that gptzoo pins. Unused with `path`."""

    config: Config

    def patterns(self, split: Split) -> tuple[str, ...]:
        if self.config.subset == "v1":
            return ("data/train-*.parquet",) if split == "train" else ("data/validation-*.parquet",)
        return (f"TinyStoriesV2-GPT4-{'train' if split == 'train' else 'valid'}.txt",)

    def read_file(self, source: Path | BinaryIO, location: str) -> Iterator[str]:
        """Yield each story, without surrounding whitespace in `v2`."""
        if self.config.subset == "v1":
            yield from super().read_file(source, location)
            return
        with open_binary(source) if isinstance(source, Path) else contextlib.nullcontext(source) as stream:
            yield from _read_stories(stream, location)


def _read_stories(stream: BinaryIO, location: str) -> Iterator[str]:
    story: list[bytes] = []
    offset = 0
    for line in stream:
        if line.strip() == _END:
            yield _decode(story, location, offset)
            story = []
        else:
            story.append(line)
        offset += len(line)
    yield _decode(story, location, offset)


def _decode(lines: list[bytes], location: str, end: int) -> str:
    data = b"".join(lines)
    try:
        return data.decode("utf-8").strip()
    except UnicodeDecodeError as error:
        raise DataError(f"{location}: byte {end - len(data) + error.start} is not UTF-8") from None
