"""The tokenizer `saved`: the tokenizer of another run, for training that continues from its weights."""

from __future__ import annotations

from pathlib import Path

from gptzoo.data.tokenizers.tokenizer import Tokenizer, load_tokenizer
from gptzoo.errors import FolderError
from gptzoo.spec.paths import PathOption

_FILE = "tokenizer.json"


class SavedTokenizer(Tokenizer):
    """The tokenizer of an existing run, checkpoint or model, instead of one trained on this run's text.

    Building it returns that tokenizer itself, and the checkpoints of the new run save that tokenizer.
    """

    name = "saved"

    class Config(Tokenizer.Config):
        path: PathOption
        """A tokenizer.json written by gptzoo, or the folder of a run, checkpoint or model that contains one."""

        def build(self, state: object = None) -> Tokenizer:
            """Load the tokenizer with its state from the file. Raises FolderError."""
            try:
                return load_tokenizer(find_tokenizer_file(Path(self.path)))
            except FolderError as error:
                raise FolderError(
                    f"tokenizer 'saved': {error}. Give the folder of a run, a checkpoint or a model, or the {_FILE} in "
                    "such a folder. `gptzoo import-hf` creates one from a Hugging Face model."
                ) from None

    config: Config

    @classmethod
    def identity(cls, config: Config) -> str:
        return config.build().fingerprint()


def find_tokenizer_file(path: Path) -> Path:
    """Return `path` if it is a file, else the tokenizer.json of that run, checkpoint or model folder.

    Raises FolderError if there is none.
    """
    if path.is_file():
        return path
    if (path / _FILE).is_file():
        return path / _FILE
    checkpoint_files = sorted(path.glob(f"checkpoints/step-*/{_FILE}"))  # the same in every checkpoint
    if checkpoint_files:
        return checkpoint_files[-1]
    raise FolderError(f"{path}: has no {_FILE}" if path.is_dir() else f"{path}: no such file or folder")
