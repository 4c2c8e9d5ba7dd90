"""The base class of tokenizers, streaming decoding, and tokenizer files."""

from __future__ import annotations

import codecs
import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from gptzoo.component import Component, Config
from gptzoo.data.tokenizers.borders import Border
from gptzoo.data.tokenizers.special_tokens import SpecialTokens, read_special_tokens, remove_chats
from gptzoo.errors import DataError, FolderError
from gptzoo.reference import Reference


class Tokenizer(Component):
    """Base class of tokenizers. `fit` returns the `state`, a JSON value that is saved with the model."""

    kind = "tokenizer"

    vocab_size: int
    eot: int | None  # the end-of-text token id; None if the vocabulary has none
    prefix: tuple[int, ...] = ()
    """Token ids that `encode` puts before each text, such as BOS. Only imported tokenizers have them."""
    special_tokens: SpecialTokens | None = None  # of an imported tokenizer
    border: Border | None = None
    """The borders at which a text can be cut: the ids of the text are those of `encode` for the first part and of
    `encode_continuation` for the second. Long documents are encoded in such parts. None: as a whole."""
    fit_border: ClassVar[Border | None] = None
    """The borders at which training texts can be cut without an effect on the result of `fit`."""
    fit_separator: ClassVar[str] = ""
    """Text between two documents, which `fit` has to learn as well."""

    def __init__(self, config: Config, state: object = None):
        self.config = config
        self.state = state
        self.special_tokens = read_special_tokens(state)
        if self.special_tokens is not None:
            self.prefix = self.special_tokens.prefix

    @classmethod
    def fit(cls, config: Any, texts: Iterable[str]) -> object:  # noqa: ANN401  a subclass takes its own Config
        """Learn from the training texts and return the state, or None if there is nothing to learn."""
        return None

    @classmethod
    def identity(cls, config: Any) -> object:  # noqa: ANN401  a subclass takes its own Config
        """Return a JSON value that identifies the options. An option that names a file counts by the file's content."""
        return config.model_dump(mode="json")

    def fingerprint(self) -> str:
        """Return a digest of the options and the state, which together determine the ids."""
        parts = [self.identity(self.config), remove_chats(self.state)]
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()

    def encode(self, text: str) -> Sequence[int]:
        """Return the token ids of a text as a model reads it: `prefix`, then ids in [0, vocab_size).

        Raises DataError for text that the vocabulary cannot represent.
        """
        raise TypeError(f"{type(self).__name__} does not implement encode")

    def encode_continuation(self, text: str) -> Sequence[int]:
        """Return the token ids of text that follows other text: those of `encode`, without `prefix`."""
        return self.encode(text)[len(self.prefix) :]

    @property
    def special_token_names(self) -> Mapping[str, int]:
        """The ids of special tokens by their names in text, as `encode_part` reads them."""
        return {} if self.eot is None else {"<|endoftext|>": self.eot}

    def encode_part(self, text: str, *, special: bool) -> Sequence[int]:
        """Return the token ids of text that follows other text.

        special: True if the name of a special token is that token; False if it is plain text. `encode_continuation`
        decides as the model's training did.
        """
        names = self.special_token_names
        if not special or not names:
            return self.encode_continuation(text)
        ids: list[int] = []
        for part in re.split("(" + "|".join(map(re.escape, sorted(names, key=len, reverse=True))) + ")", text):
            ids += [names[part]] if part in names else self.encode_continuation(part)
        return ids

    def encode_text(self, text: str, *, special_tokens: bool = False) -> list[int]:
        """Return the token ids of a text with `prefix`, like `encode`.

        special_tokens: read the name of a special token as that token with every tokenizer.
        """
        return [*self.prefix, *self.encode_part(text, special=True)] if special_tokens else list(self.encode(text))

    @property
    def end_tokens(self) -> tuple[int, ...]:
        """The ids that end a generated text: the end-of-text token, and further ones of an imported model."""
        if self.special_tokens is not None and self.special_tokens.end:
            return self.special_tokens.end
        return () if self.eot is None else (self.eot,)

    def decode_bytes(self, ids: Sequence[int]) -> bytes:
        """Return the UTF-8 bytes of `ids`.

        Each id decodes on its own: the bytes of `a + b` are the bytes of `a` followed by those of `b`. One id may stand
        for a part of a character, or for nothing, as the end-of-text token does. Raises DataError for an id outside the
        vocabulary.
        """
        raise TypeError(f"{type(self).__name__} does not implement decode_bytes")

    def tokenizer_json(self) -> dict[str, Any]:
        """Return the tokenizer in the format of the library `tokenizers`, for export to Hugging Face formats.

        A text has the ids of `encode_continuation` there, if special tokens in it are split, and ids have the bytes of
        `decode_bytes`. The end-of-text token is a special token. Raises DataError if the format cannot express this.
        """
        raise DataError(
            f"tokenizer {self.name!r} cannot be written as a tokenizer.json: its class {type(self).__name__} does not "
            "implement tokenizer_json. Use tokenizer 'bpe', 'byte' or 'tiktoken'."
        )

    def separator(self) -> Sequence[int]:
        """Return the ids between two documents: the end-of-text token, or a newline if the vocabulary has none."""
        return self.encode_continuation("\n") if self.eot is None else [self.eot]

    def check_ids(self, ids: Sequence[int]) -> Sequence[int]:
        """Return `ids` unchanged. Raises DataError for an id outside the vocabulary."""
        unknown = next((token for token in ids if not 0 <= token < self.vocab_size), None)
        if unknown is not None:
            raise DataError(
                f"tokenizer {self.config.type!r} has no token {unknown}, only 0 to {self.vocab_size - 1}. "
                "Check that the tokens were made with this tokenizer."
            )
        return ids

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of `ids`. Bytes that are not valid UTF-8 become U+FFFD."""
        return self.decode_bytes(ids).decode("utf-8", errors="replace")


class StreamDecoder:
    """A decoder that takes one token at a time and returns only complete characters."""

    def __init__(self, tokenizer: Tokenizer):
        self.tokenizer = tokenizer
        self.utf8_decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")

    def feed(self, token: int) -> str:
        """Return the text that this token completes."""
        return self.utf8_decoder.decode(self.tokenizer.decode_bytes([token]))

    def flush(self) -> str:
        """Return U+FFFD if the stream ends inside a character, else an empty string."""
        return self.utf8_decoder.decode(b"", final=True)


def save_tokenizer(tokenizer: Tokenizer, file: Path) -> None:
    """Write a tokenizer as one JSON file."""
    saved = {"config": tokenizer.config.model_dump(mode="json"), "state": tokenizer.state}
    file.write_text(json.dumps(saved, ensure_ascii=False) + "\n", encoding="utf-8")


def load_tokenizer(file: Path) -> Tokenizer:
    """Load a file that `save_tokenizer` wrote.

    Raises FolderError if the file is damaged or needs a plugin that is not installed.
    """
    try:
        saved = json.loads(file.read_text(encoding="utf-8"))
        config = Reference("tokenizer").validate(saved["config"])
        tokenizer: Tokenizer = config.build(saved["state"])
        return tokenizer
    except DataError as error:
        raise DataError(f"{file}: {error}") from None
    except FolderError:
        raise
    except Exception as error:  # a damaged state may fail anywhere in the component that reads it
        raise FolderError(f"{file}: cannot load a tokenizer from this file: {error}") from None
