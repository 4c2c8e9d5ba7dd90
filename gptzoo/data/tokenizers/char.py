"""The tokenizer `char`: characters as tokens."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from gptzoo.data.tokenizers.borders import anywhere
from gptzoo.data.tokenizers.tokenizer import Tokenizer
from gptzoo.errors import DataError


class CharTokenizer(Tokenizer):
    """One token for each character of the training text, numbered in code point order.

    Documents are separated by newlines. A training text of several documents always has the newline in its vocabulary.
    """

    name = "char"
    eot = None
    border = anywhere
    fit_border = anywhere
    fit_separator = "\n"

    def __init__(self, config: Tokenizer.Config, state: str):
        super().__init__(config, state)
        self.characters: list[str] = list(state)
        self.vocab_size = len(self.characters)
        self.ids = {character: index for index, character in enumerate(self.characters)}

    @classmethod
    def fit(cls, config: Tokenizer.Config, texts: Iterable[str]) -> str:
        characters: set[str] = set()
        for text in texts:
            characters.update(text)
        return "".join(sorted(characters))

    def encode(self, text: str) -> Sequence[int]:
        try:
            return [self.ids[character] for character in text]
        except KeyError as error:
            raise DataError(
                f"tokenizer 'char' has no token for {error.args[0]!r}, which does not occur in the training text. "
                "Use tokenizer 'byte' or 'bpe', or remove the character."
            ) from None

    def separator(self) -> Sequence[int]:
        """Return a newline, or nothing if the training text is a single document without a newline."""
        return [self.ids["\n"]] if "\n" in self.ids else []

    def decode_bytes(self, ids: Sequence[int]) -> bytes:
        return "".join(self.characters[token] for token in self.check_ids(ids)).encode("utf-8")

    def tokenizer_json(self) -> dict[str, Any]:
        """Return a BPE without merges. `tokenizers` drops characters that it does not have."""
        model = {"type": "BPE", "vocab": self.ids, "merges": []}
        return {"version": "1.0", "added_tokens": [], "model": model, "decoder": {"type": "Fuse"}}
