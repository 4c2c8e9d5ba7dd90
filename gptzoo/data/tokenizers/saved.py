"""The tokenizer `saved`: one that another run has learnt, for training that goes on from its weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from gptzoo.data.tokenizers.tokenizer import Tokenizer, load_tokenizer
from gptzoo.errors import FolderError
from gptzoo.spec.paths import PathOption

_FILE = "tokenizer.json"


class SavedTokenizer(Tokenizer):
    """The tokenizer that a run, a checkpoint or a model was trained with, in place of one that learns from this text.

    What is built, and what checkpoints of the new run keep, is that tokenizer itself.
    """

    name = "saved"

    class Config(Tokenizer.Config):
        path: PathOption
        """A tokenizer.json that gptzoo wrote, or the folder of a run, a checkpoint or a model that has one."""

        def build(self, state: Any = None) -> Tokenizer:
            """The tokenizer in the file; it has its state with it. Raises FolderError."""
            try:
                return load_tokenizer(tokenizer_file(Path(self.path)))
            except FolderError as error:
                raise FolderError(
                    f"tokenizer 'saved': {error}. Name a run, a checkpoint or a model folder, or the {_FILE} in one; "
                    "`gptzoo import-hf` makes one from that of a Hugging Face model"
                ) from None

    @classmethod
    def identity(cls, config: Any) -> Any:
        return config.build().fingerprint()


def tokenizer_file(path: Path) -> Path:
    """The tokenizer.json that `path` is, or that is in the folder there. Raises FolderError if there is none."""
    if path.is_file():
        return path
    if (path / _FILE).is_file():
        return path / _FILE
    of_run = sorted(path.glob(f"checkpoints/step-*/{_FILE}"))  # it is the same in each
    if of_run:
        return of_run[-1]
    raise FolderError(f"{path}: has no {_FILE}" if path.is_dir() else f"{path}: no such file or folder")
