"""Tokenizers that are wrong for long texts, rare characters or large vocabularies."""

from __future__ import annotations

import unicodedata

from gptzoo.data.tokenizers.byte import ByteTokenizer
from gptzoo.data.tokenizers.char import CharTokenizer
from gptzoo.data.tokenizers.tokenizer import Tokenizer

from .table import caught_by


@caught_by("round_trip")
class CutCharacters(ByteTokenizer):
    """Bytes, encoded in blocks of 1,024. Wrong: a character that lies across two blocks is replaced."""

    name = "cut_characters"

    def encode(self, text):
        data = text.encode("utf-8")
        blocks = (data[start : start + 1024].decode("utf-8", errors="replace") for start in range(0, len(data), 1024))
        return [token for block in blocks for token in block.encode("utf-8")]


@caught_by("round_trip")
class ComposedTail(ByteTokenizer):
    """Bytes. Wrong: texts of more than 256 characters are normalised, so combining characters are lost."""

    name = "composed_tail"

    def encode(self, text):
        return super().encode(text if len(text) <= 256 else unicodedata.normalize("NFC", text))


@caught_by("round_trip")
class SmallPlanes(ByteTokenizer):
    """Bytes of UTF-8. Wrong: characters above U+1FFFF, such as rare ideographs, lose their highest bit."""

    name = "small_planes"

    def encode(self, text):
        return super().encode("".join(c if ord(c) < 0x20000 else chr(ord(c) & 0x1FFFF) for c in text))


@caught_by("decoding")
class StrippedDecoder(ByteTokenizer):
    """Bytes. Wrong: decoding more than 128 ids at once drops spaces at the end, so it differs from a stream."""

    name = "stripped_decoder"

    def decode_bytes(self, ids):
        data = super().decode_bytes(ids)
        return data if len(ids) <= 128 else data.rstrip(b" ")


class Words(Tokenizer):
    """Frequent characters of the training text as tokens, and bytes for the others."""

    name = "words"
    eot = 256

    def __init__(self, config, state):
        super().__init__(config, state)
        self.ids = self.read(state)
        self.characters = {index: character for character, index in self.ids.items()}
        self.vocab_size = 257 + len(self.ids)

    def read(self, state):
        """Return the id of each character."""
        return {character: 257 + index for index, character in enumerate(state["characters"])}

    @classmethod
    def fit(cls, config, texts):
        return {"characters": "".join(sorted({c for text in texts for c in text if ord(c) > 127}))}

    def encode(self, text):
        text.encode("utf-8")
        return [t for c in text for t in ([self.ids[c]] if c in self.ids else c.encode("utf-8"))]

    def decode_bytes(self, ids):
        return b"".join(self.piece(token) for token in self.check_ids(ids))

    def piece(self, token):
        if token < 256:
            return bytes([token])
        return b"" if token == self.eot else self.characters[token].encode("utf-8")


@caught_by("saving")
class IntegerKeys(Words):
    """Characters as tokens. Wrong: beyond 64 characters the state has integer keys, which JSON turns into strings."""

    name = "integer_keys"

    @classmethod
    def fit(cls, config, texts):
        state = super().fit(config, texts)
        characters = state["characters"]
        return {"characters": characters[:64], "others": dict(enumerate(characters[64:]))}

    def read(self, state):
        ids = super().read(state)
        others = ((257 + len(ids) + index, c) for index, c in state["others"].items() if isinstance(index, int))
        return ids | {c: index for index, c in others}


@caught_by("ids")
class WideIds(Words):
    """Characters as tokens. Wrong: the vocabulary size leaves out characters above U+1FFFF."""

    name = "wide_ids"

    def __init__(self, config, state):
        super().__init__(config, state)
        self.vocab_size = 257 + sum(1 for c in self.ids if ord(c) < 0x20000)


@caught_by("round_trip")
class FewCharacters(CharTokenizer):
    """Characters of the training text. Wrong: only the first 128 of them get a token, and others become the last."""

    name = "few_characters"

    def encode(self, text):
        return [min(token, 127) for token in super().encode(text)]
