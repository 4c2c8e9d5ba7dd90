"""The tokenizer `bpe`: byte-pair encoding through Hugging Face `tokenizers`."""

from __future__ import annotations

import functools
import itertools
import json
import re
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import ModuleType
from typing import TYPE_CHECKING, Any

from pydantic import Field

from gptzoo.data.tokenizers.borders import PART_CHARACTERS, Border, border_of_state, cut_at_borders, last_word_border
from gptzoo.data.tokenizers.byte_level import bytes_of_piece
from gptzoo.data.tokenizers.library_errors import report_library_errors
from gptzoo.data.tokenizers.special_tokens import STATE_KEY
from gptzoo.data.tokenizers.tokenizer import Tokenizer
from gptzoo.data.utf8 import encode_utf8
from gptzoo.errors import DataError, UserNote

if TYPE_CHECKING:
    import tokenizers

MAX_TRAINING_WORD = 2**13  # characters
_LONG_RUN = re.compile(rf"\S{{{MAX_TRAINING_WORD}}}|\s{{{MAX_TRAINING_WORD}}}")
_BYTE_DECODERS = ("ByteLevel", "ByteFallback", "Metaspace", "Replace")
_FUSE = {"type": "Fuse"}  # a decoder that joins the pieces as they are
END_OF_TEXT = ("<|endoftext|>", "<|end_of_text|>", "</s>", "<|eot_id|>")


class BpeTokenizer(Tokenizer):
    """Byte-level byte-pair encoding, trained on the training text with Hugging Face `tokenizers`.

    Its state is the JSON of that library (`tokenizer.json`), so the tokenizer of an imported model has this type too.
    An imported tokenizer reads texts as transformers does: BOS first, if the model was trained with it.
    """

    name = "bpe"
    paper = "Sennrich et al. 2015, Neural Machine Translation of Rare Words with Subword Units, arXiv:1508.07909"

    class Config(Tokenizer.Config):
        vocab_size: int = Field(default=1024, ge=257, le=2**20)
        """Maximum vocabulary size, up to 2**20: 256 bytes, the end-of-text token and the merges. Unused for imported
        tokenizers."""

    config: Config
    state: dict[str, Any]
    fit_border = last_word_border

    def __init__(self, config: Config, state: dict[str, Any]):
        super().__init__(config, state)
        self.library_tokenizer = _load_library_tokenizer(state)
        if self.special_tokens is not None:
            self.library_tokenizer.encode_special_tokens = not self.special_tokens.in_text
        elif len(self.library_tokenizer.encode("").ids) > 0:
            warnings.warn(
                "this tokenizer was imported by an earlier version of gptzoo: it reads texts without BOS and knows one "
                "end token. Import the model again with `gptzoo import-hf` to read texts as in its training",
                UserNote,
                stacklevel=2,
            )
        in_text = self.special_tokens is not None and self.special_tokens.in_text
        self.border = border_of_state(state, reads_special_tokens=in_text)
        self.vocab_size = 1 + max(
            self.library_tokenizer.get_vocab(with_added_tokens=True).values()
        )  # ids may have gaps
        self.eot = self._find_end_of_text()
        decoder = json.dumps(state["decoder"])
        self.is_byte_level = "ByteLevel" in decoder
        self.has_plain_pieces = not any(name in decoder for name in _BYTE_DECODERS)
        added_tokens = self.library_tokenizer.get_added_tokens_decoder().items()
        self.special_ids = {index for index, token in added_tokens if token.special}
        if self.special_tokens is not None:
            self.special_ids |= {*self.special_tokens.prefix, *self.special_tokens.end}
        self.added_token_bytes = {index: token.content.encode("utf-8") for index, token in added_tokens}

    @classmethod
    def fit(cls, config: Config, texts: Iterable[str]) -> dict[str, Any]:
        hf = import_tokenizers()
        library = hf.Tokenizer(hf.models.BPE())
        library.pre_tokenizer = _pre_tokenizer()
        library.decoder = hf.decoders.ByteLevel()
        trainer = hf.trainers.BpeTrainer(
            vocab_size=config.vocab_size,
            special_tokens=[END_OF_TEXT[0]],
            initial_alphabet=sorted(hf.pre_tokenizers.ByteLevel.alphabet()),
            show_progress=False,
        )
        reading_errors: list[BaseException] = []
        with report_library_errors("tokenizer 'bpe'", reading_errors=reading_errors):
            library.train_from_iterator(_keep_error(map(_training_parts, texts), reading_errors), trainer)
        state: dict[str, Any] = json.loads(library.to_str())
        return state

    def _find_end_of_text(self) -> int | None:
        if self.special_tokens is not None:
            return next(iter(self.special_tokens.end), None)
        known = [self.library_tokenizer.token_to_id(name) for name in END_OF_TEXT]
        return next((token for token in known if token is not None), None)

    def encode(self, text: str) -> Sequence[int]:
        return [*self.prefix, *self.encode_continuation(text)]

    def encode_continuation(self, text: str) -> Sequence[int]:
        return self._encode_by(self.library_tokenizer, text, self.border)

    def encode_part(self, text: str, *, special: bool) -> Sequence[int]:
        if special == (not self.library_tokenizer.encode_special_tokens):
            return self.encode_continuation(text)
        return self._encode_by(self._other_library_tokenizer, text, None)

    @property
    def special_token_names(self) -> Mapping[str, int]:
        return {
            name: token for token in sorted(self.special_ids) if (name := self.library_tokenizer.id_to_token(token))
        }

    @functools.cached_property
    def _other_library_tokenizer(self) -> tokenizers.Tokenizer:
        """The tokenizer that reads special tokens in text if `library_tokenizer` does not, and the reverse.

        It is a separate object, because several threads may encode at the same time.
        """
        other = _load_library_tokenizer(self.state)
        other.encode_special_tokens = not self.library_tokenizer.encode_special_tokens
        return other

    @staticmethod
    def _encode_by(library: tokenizers.Tokenizer, text: str, border: Border | None) -> Sequence[int]:
        encode_utf8(text)  # raises a clear error for text that is not valid Unicode
        parts = [text] if len(text) <= PART_CHARACTERS else cut_at_borders([text], border)
        with report_library_errors("tokenizer 'bpe'"):
            encoded = [library.encode(part, add_special_tokens=False).ids for part in parts]
        return encoded[0] if len(encoded) == 1 else list(itertools.chain.from_iterable(encoded))

    def tokenizer_json(self) -> dict[str, Any]:
        return {key: value for key, value in self.state.items() if key != STATE_KEY}

    def decode_bytes(self, ids: Sequence[int]) -> bytes:
        return b"".join(self._token_bytes(token) for token in self.check_ids(ids) if token not in self.special_ids)

    def _token_bytes(self, token: int) -> bytes:
        if token in self.added_token_bytes:
            return self.added_token_bytes[token]
        piece = self.library_tokenizer.id_to_token(token)
        if piece is None:
            return b""
        if self.is_byte_level:
            return bytes_of_piece(piece)
        if self.has_plain_pieces:
            return piece.encode("utf-8")
        if match := _BYTE_FALLBACK.fullmatch(piece):
            return bytes([int(match[1], 16)])
        return piece.replace("\u2581", " ").encode("utf-8")  # SentencePiece writes a space as U+2581


def _keep_error(texts: Iterable[Iterable[str]], errors: list[BaseException]) -> Iterator[str]:
    """Yield all texts. Append an error to `errors`, so that it can be told from one of the library."""
    try:
        yield from itertools.chain.from_iterable(texts)
    except BaseException as error:
        errors.append(error)
        raise


def _training_parts(text: str) -> Iterator[str]:
    """Yield a training text in parts, and a word that is too long for the trainer in pieces.

    The trainer's time is quadratic in the length of a word. The other words are the same as without parts.
    """
    for part in cut_at_borders([text], last_word_border):
        start = 0
        if _LONG_RUN.search(part):
            for _, (begin, end) in _pre_tokenizer().pre_tokenize_str(part):
                if end - begin > MAX_TRAINING_WORD:
                    yield part[start:begin]
                    yield from (part[i : min(end, i + MAX_TRAINING_WORD)] for i in range(begin, end, MAX_TRAINING_WORD))
                    start = end
        yield part[start:]


def _load_library_tokenizer(state: dict[str, Any]) -> tokenizers.Tokenizer:
    """Load a `tokenizer.json` so that special tokens in a text are plain text, without truncation or padding."""
    library_tokenizers = import_tokenizers()
    if not isinstance(state, dict):
        raise DataError(f"tokenizer 'bpe': expected the object of a tokenizer.json, got {type(state).__name__}")
    library_state = {key: value for key, value in state.items() if key != STATE_KEY}
    try:
        library: tokenizers.Tokenizer = library_tokenizers.Tokenizer.from_str(json.dumps(library_state))
    except Exception as error:  # the library raises plain Exceptions
        raise DataError(f"tokenizer 'bpe': the state is not a valid tokenizer.json: {error}") from None
    decoder = json.dumps(state.get("decoder"))
    if state.get("decoder") != _FUSE and not any(name in decoder for name in _BYTE_DECODERS):
        raise DataError(
            "tokenizer 'bpe': expected a decoder that maps tokens to bytes (ByteLevel, ByteFallback, Metaspace, "
            f"Replace, or Fuse alone), got {decoder}"
        )
    library.encode_special_tokens = True  # `<|endoftext|>` in a text is thirteen characters, not one token
    library.no_truncation()
    library.no_padding()
    return library


def _pre_tokenizer() -> Any:  # noqa: ANN401  `tokenizers` is an optional dependency
    return import_tokenizers().pre_tokenizers.ByteLevel(add_prefix_space=False)


def import_tokenizers() -> ModuleType:
    """Return the module of the optional package. Raises DataError if it is not installed."""
    try:
        import tokenizers
    except ImportError:
        raise DataError("tokenizer 'bpe' needs the package `tokenizers`: pip install 'gptzoo[bpe]'") from None
    return tokenizers


_BYTE_FALLBACK = re.compile(r"<0x([0-9A-F]{2})>")
