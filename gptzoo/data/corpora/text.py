"""The corpus `text`: plain text files."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from gptzoo.data.corpora.corpus import Split
from gptzoo.data.corpora.files import FileCorpus
from gptzoo.data.utf8 import read_utf8


class TextCorpus(FileCorpus):
    """Plain UTF-8 text: a single file or a folder of .txt files.

    The last `val_fraction` of the characters of a single file is held out for validation. In a folder, each file is a
    document, and a hash of its content decides whether it is held out.
    """

    name = "text"
    suffix = ".txt"

    @property
    def is_continuous(self) -> bool:
        return not Path(self.config.path).is_dir()

    def _split_documents(self, split: Split) -> Iterator[str]:
        if self.config.val_path is not None or Path(self.config.path).is_dir():
            yield from super()._split_documents(split)
            return
        (text,) = self._read_all(self.config.path)
        cut = int(len(text) * (1 - self.config.val_fraction))
        yield text[:cut] if split == "train" else text[cut:]

    def _read(self, file: Path) -> Iterator[str]:
        yield read_utf8(file)
