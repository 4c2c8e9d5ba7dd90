"""The corpus `tinyshakespeare`: 1 MB of plays by Shakespeare in one file."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

from gptzoo.data.corpora.corpus import Corpus, Split
from gptzoo.data.utf8 import open_binary
from gptzoo.errors import DataError
from gptzoo.hub.download import download_file
from gptzoo.spec.paths import PathOption
from gptzoo.utils.cache_folder import cache_folder

_TRAIN_FRACTION = 0.9


class TinyShakespeareCorpus(Corpus):
    """Tiny Shakespeare: 1.1 MB of plays by Shakespeare as continuous text. The last 10% is held out, as in nanoGPT.

    Source: https://github.com/karpathy/char-rnn, data/tinyshakespeare/input.txt. The plays are in the public domain.
    The file is downloaded once, and its SHA-256 is checked.
    """

    name = "tinyshakespeare"
    paper = "Karpathy 2015, The Unreasonable Effectiveness of Recurrent Neural Networks"
    license = "public domain"
    downloads = True
    url: ClassVar[str] = (
        "https://raw.githubusercontent.com/karpathy/char-rnn/6f9487a6fe5b420b7ca9afb0d7c078e37c1d1b4e"
        "/data/tinyshakespeare/input.txt"
    )
    sha256: ClassVar[str] = "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed"

    class Config(Corpus.Config):
        path: PathOption | None = None
        """Local copy of the file. Default: download it into the cache of gptzoo."""

    config: Config

    @property
    def is_continuous(self) -> bool:
        return True

    def fingerprint(self) -> str:
        """Return the same digest for the download and for a local copy, because the content of both is checked."""
        return hashlib.sha256(f"{self.config.type}/{self.sha256}/{_TRAIN_FRACTION}".encode()).hexdigest()

    def documents(self, split: Split) -> Iterator[str]:
        """Yield the text of a split as one document. Raises DataError if the file is missing or has other content."""
        text = self._read()
        cut = int(len(text) * _TRAIN_FRACTION)
        yield text[:cut] if split == "train" else text[cut:]

    def _read(self) -> str:
        file = self._local_copy() if self.config.path is None else Path(self.config.path)
        if not file.is_file():
            raise DataError(f"corpus {self.config.type!r}: {file}: no such file; download it from {self.url}")
        with open_binary(file) as stream:
            data = stream.read()
        if (digest := hashlib.sha256(data).hexdigest()) != self.sha256:
            raise DataError(
                f"corpus {self.config.type!r}: {file}: is not the file of the dataset: its SHA-256 is {digest}, not "
                f"{self.sha256}. Download it from {self.url}; for another text, use the corpus 'text'"
            )
        return data.decode("ascii")

    def _local_copy(self) -> Path:
        """Return the file in the cache, downloaded if it is missing."""
        file = cache_folder() / "downloads" / self.sha256 / "tinyshakespeare.txt"
        if not file.is_file():
            try:
                download_file(self.url, file, self.sha256)
            except DataError as error:
                raise DataError(
                    f"corpus {self.config.type!r}: {error}. Download {self.url} where there is a network, and set the "
                    "corpus's `path` to the file"
                ) from None
        return file
