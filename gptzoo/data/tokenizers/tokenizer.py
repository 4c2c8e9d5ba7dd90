"""The kind `tokenizer`: text to ids and back."""

from __future__ import annotations

import codecs
import hashlib
import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError
from pydantic_core import PydanticCustomError

from gptzoo.component import Component, Config
from gptzoo.data.utf8 import utf8
from gptzoo.errors import DataError, FolderError
from gptzoo.reference import Reference

END_OF_TEXT = ("<|endoftext|>", "<|end_of_text|>", "</s>", "<|eot_id|>")


class Tokenizer(Component):
    """Base of the kind. What one learns from text is its `state`, a JSON value that is saved with the model."""

    kind = "tokenizer"

    vocab_size: int
    eot: int | None  # the id that ends a text, where there is one

    def __init__(self, config: Config, state: Any = None):
        self.config = config
        self.state = state

    @classmethod
    def fit(cls, config: Any, texts: Iterable[str]) -> Any:
        """The state that these training texts teach; None when there is nothing to learn."""
        return None

    @classmethod
    def identity(cls, config: Any) -> Any:
        """What these options say of its ids, a JSON value. Of a file that they name it is what the file holds."""
        return config.model_dump(mode="json")

    def fingerprint(self) -> str:
        """A digest of all that decides its ids: its options and its state."""
        parts = [self.identity(self.config), self.state]
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()

    def encode(self, text: str) -> Sequence[int]:
        """Ids, each at least 0 and below `vocab_size`. Raises DataError for text that it has no ids for."""
        raise TypeError(f"{type(self).__name__} does not implement encode")

    def decode_bytes(self, ids: Sequence[int]) -> bytes:
        """The UTF-8 bytes that the ids stand for, each by itself: those of `a + b` are those of `a`, then those of `b`.

        A single id may stand for a part of a character, or for nothing, as the one that ends a text does. Raises
        DataError for an id outside of the vocabulary.
        """
        raise TypeError(f"{type(self).__name__} does not implement decode_bytes")

    def separator(self) -> Sequence[int]:
        """What stands between two documents: the id that ends a text, or a newline where there is none."""
        return self.encode("\n") if self.eot is None else [self.eot]

    def known(self, ids: Sequence[int]) -> Sequence[int]:
        """`ids`, all of which the vocabulary has, or a DataError that names the one that it has not."""
        wrong = next((token for token in ids if not 0 <= token < self.vocab_size), None)
        if wrong is not None:
            raise DataError(
                f"tokenizer {self.config.type!r} has no token {wrong}, only 0 to {self.vocab_size - 1}; "
                "were the tokens made with another tokenizer?"
            )
        return ids

    def decode(self, ids: Sequence[int]) -> str:
        """The text that the ids stand for; bytes that are no UTF-8 become U+FFFD."""
        return self.decode_bytes(ids).decode("utf-8", errors="replace")


class StreamDecoder:
    """Decodes ids one by one and never gives out part of a character."""

    def __init__(self, tokenizer: Tokenizer):
        self.tokenizer = tokenizer
        self.bytes = codecs.getincrementaldecoder("utf-8")(errors="replace")

    def feed(self, token: int) -> str:
        """The text that is complete now and was not before."""
        return self.bytes.decode(self.tokenizer.decode_bytes([token]))

    def flush(self) -> str:
        """What is left at the end: U+FFFD for a character that never became whole."""
        return self.bytes.decode(b"", final=True)


class ByteTokenizer(Tokenizer):
    """The 256 bytes of UTF-8 text and an end-of-text id: nothing to learn, nothing it cannot read."""

    name = "byte"
    paper = "Xue et al. 2021, ByT5, arXiv:2105.13626"
    vocab_size = 257
    eot = 256

    def encode(self, text: str) -> Sequence[int]:
        return list(utf8(text))

    def decode_bytes(self, ids: Sequence[int]) -> bytes:
        return bytes(token for token in self.known(ids) if token != self.eot)


class CharTokenizer(Tokenizer):
    """One id for each character that occurs in the training text, in the order of code points."""

    name = "char"
    eot = None

    def __init__(self, config: Config, state: Any = None):
        super().__init__(config, state)
        self.characters: list[str] = list(state)
        self.vocab_size = len(self.characters)
        self.ids = {character: index for index, character in enumerate(self.characters)}

    @classmethod
    def fit(cls, config: Any, texts: Iterable[str]) -> Any:
        characters: set[str] = set()
        for text in texts:
            characters.update(text)
        return "".join(sorted(characters))

    def encode(self, text: str) -> Sequence[int]:
        try:
            return [self.ids[character] for character in text]
        except KeyError as error:
            raise DataError(
                f"tokenizer 'char' has no id for {error.args[0]!r}, which the training text does not have; "
                "use tokenizer 'byte' or 'bpe', or leave the character out"
            ) from None

    def decode_bytes(self, ids: Sequence[int]) -> bytes:
        return "".join(self.characters[token] for token in self.known(ids)).encode("utf-8")


class BpeTokenizer(Tokenizer):
    """Byte-level byte-pair encoding, learnt from the training text by Hugging Face `tokenizers`.

    Its state is that library's own JSON, so the tokenizer of an imported model is one of these too.
    """

    name = "bpe"
    paper = "Sennrich et al. 2015, Neural Machine Translation of Rare Words with Subword Units, arXiv:1508.07909"

    class Config(Tokenizer.Config):
        vocab_size: int = Field(1024, ge=257)
        """Ids at most: 256 bytes, the end-of-text id and the merges. Of an imported tokenizer it says nothing."""

    def __init__(self, config: Config, state: Any = None):
        super().__init__(config, state)
        self.library = _library(state)
        self.vocab_size = 1 + max(self.library.get_vocab(with_added_tokens=True).values())  # ids may have gaps
        ends = [self.library.token_to_id(name) for name in END_OF_TEXT]
        self.eot = next((end for end in ends if end is not None), None)
        self.is_byte_level = "ByteLevel" in json.dumps(state["decoder"])
        added = self.library.get_added_tokens_decoder().items()
        self.special = {index for index, token in added if token.special}
        self.plain = {index: token.content.encode("utf-8") for index, token in added}

    @classmethod
    def fit(cls, config: Any, texts: Iterable[str]) -> Any:
        hf = _hugging_face()
        library = hf.Tokenizer(hf.models.BPE())
        library.pre_tokenizer = hf.pre_tokenizers.ByteLevel(add_prefix_space=False)
        library.decoder = hf.decoders.ByteLevel()
        trainer = hf.trainers.BpeTrainer(
            vocab_size=config.vocab_size,
            special_tokens=[END_OF_TEXT[0]],
            initial_alphabet=sorted(hf.pre_tokenizers.ByteLevel.alphabet()),
            show_progress=False,
        )
        library.train_from_iterator(texts, trainer)
        return json.loads(library.to_str())

    def encode(self, text: str) -> Sequence[int]:
        utf8(text)
        return self.library.encode(text, add_special_tokens=False).ids

    def decode_bytes(self, ids: Sequence[int]) -> bytes:
        return b"".join(self._piece(token) for token in self.known(ids) if token not in self.special)

    def _piece(self, token: int) -> bytes:
        if token in self.plain:
            return self.plain[token]
        piece = self.library.id_to_token(token)
        if piece is None:
            return b""
        if self.is_byte_level:
            return bytes(_BYTES[character] for character in piece)
        if match := _BYTE_FALLBACK.fullmatch(piece):
            return bytes([int(match[1], 16)])
        return piece.replace("\u2581", " ").encode("utf-8")  # SentencePiece writes a space as U+2581


class TiktokenTokenizer(Tokenizer):
    """A published encoding of OpenAI's models, by name, through `tiktoken`."""

    name = "tiktoken"
    paper = "Radford et al. 2019, Language Models are Unsupervised Multitask Learners (GPT-2)"

    class Config(Tokenizer.Config):
        name: str = "gpt2"
        """gpt2, r50k_base, p50k_base, cl100k_base, o200k_base, …"""

    def __init__(self, config: Any, state: Any = None):
        super().__init__(config, state)
        self.library = _tiktoken(config.name)
        self.vocab_size = self.library.n_vocab
        self.eot = self.library.eot_token
        self.special = {self.library.encode_single_token(name) for name in self.library.special_tokens_set}

    def encode(self, text: str) -> Sequence[int]:
        utf8(text)
        return self.library.encode_ordinary(text)

    def decode_bytes(self, ids: Sequence[int]) -> bytes:
        return b"".join(self._piece(token) for token in self.known(ids) if token not in self.special)

    def _piece(self, token: int) -> bytes:
        try:
            return self.library.decode_single_token_bytes(token)
        except KeyError:  # some encodings have gaps between their ids
            return b""


def save_tokenizer(tokenizer: Tokenizer, file: Path) -> None:
    """Write a tokenizer as one JSON file."""
    saved = {"config": tokenizer.config.model_dump(mode="json"), "state": tokenizer.state}
    file.write_text(json.dumps(saved, ensure_ascii=False) + "\n", encoding="utf-8")


def load_tokenizer(file: Path) -> Tokenizer:
    """The tokenizer in a file of `save_tokenizer`; raises FolderError when it is damaged or its plugin is missing."""
    try:
        saved = json.loads(file.read_text(encoding="utf-8"))
        config = Reference("tokenizer").validate(saved["config"])
        return config.build(saved["state"])
    except DataError as error:
        raise DataError(f"{file}: {error}") from None
    except (OSError, ValueError, KeyError, TypeError, ValidationError, PydanticCustomError) as error:
        raise FolderError(f"{file}: no tokenizer can be read from it: {error}") from None


def _tiktoken(name: str) -> Any:
    import tiktoken

    try:
        return tiktoken.get_encoding(name)
    except ValueError:
        raise DataError(
            f"tiktoken has no encoding named {name!r}  (known: {', '.join(tiktoken.list_encoding_names())})"
        ) from None
    except Exception as error:  # requests' errors, and tiktoken's own about a file that came damaged
        raise DataError(
            f"tiktoken cannot get the encoding {name!r}: it is downloaded on first use, and that failed "
            f"({type(error).__name__}). Connect once, or set TIKTOKEN_CACHE_DIR to a folder that has it, "
            "or use tokenizer 'bpe' or 'byte', which need no download"
        ) from error


def _library(state: Any) -> Any:
    """Hugging Face's tokenizer of that JSON, set to read all text as text, whole, and nothing but the text."""
    try:
        library = _hugging_face().Tokenizer.from_str(json.dumps(state))
    except DataError:
        raise
    except Exception as error:  # it raises plain Exceptions
        raise DataError(f"tokenizer 'bpe': its state is no tokenizer.json: {error}") from None
    decoder = json.dumps(state.get("decoder"))
    if not any(name in decoder for name in ("ByteLevel", "ByteFallback", "Metaspace", "Replace")):
        raise DataError(f"tokenizer 'bpe': no way is known from its tokens to bytes; its decoder is {decoder}")
    library.encode_special_tokens = True  # `<|endoftext|>` in a text is these thirteen characters
    library.no_truncation()
    library.no_padding()
    return library


def _hugging_face() -> Any:
    try:
        import tokenizers
    except ImportError:
        raise DataError("tokenizer 'bpe' needs the package `tokenizers`: pip install 'gptzoo[bpe]'") from None
    return tokenizers


def _byte_alphabet() -> dict[str, int]:
    """GPT-2's printable stand-ins for the 256 bytes: themselves where printable, else characters from U+0100 on."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(0x100 + index): byte for index, byte in enumerate(others)}


_BYTES = _byte_alphabet()
_BYTE_FALLBACK = re.compile(r"<0x([0-9A-F]{2})>")
