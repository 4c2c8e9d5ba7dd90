"""The corpus `text`: plain text files."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from gptzoo.data.corpora.corpus import Split
from gptzoo.data.corpora.file_text import Document, FileText, open_text, split_text
from gptzoo.data.corpora.files import FileCorpus

MAX_STRING_BYTES = 2**22  # a longer document is read in pieces


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

    def _split_documents(self, split: Split) -> Iterator[Document]:
        if self.config.val_path is not None or Path(self.config.path).is_dir():
            yield from super()._split_documents(split)
            return
        (file,) = self._files(self.config.path)
        train, val = split_text(open_text(file), 1 - self.config.val_fraction)
        yield _read_if_small(train if split == "train" else val)

    def _read(self, file: Path) -> Iterator[Document]:
        yield _read_if_small(open_text(file))


def _read_if_small(text: FileText) -> Document:
    return text if len(text) > MAX_STRING_BYTES else text.read()
