"""The tokenizer `byte`: UTF-8 bytes as token ids."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gptzoo.data.tokenizers.borders import anywhere
from gptzoo.data.tokenizers.byte_level import byte_level_json
from gptzoo.data.tokenizers.tokenizer import Tokenizer
from gptzoo.data.utf8 import encode_utf8


class ByteTokenizer(Tokenizer):
    """UTF-8 bytes as token ids, plus an end-of-text token. It needs no training and represents any text."""

    name = "byte"
    paper = "Xue et al. 2021, ByT5, arXiv:2105.13626"
    vocab_size = 257
    eot = 256
    border = anywhere

    def encode(self, text: str) -> Sequence[int]:
        return list(encode_utf8(text))

    def decode_bytes(self, ids: Sequence[int]) -> bytes:
        return bytes(token for token in self.check_ids(ids) if token != self.eot)

    def tokenizer_json(self) -> dict[str, Any]:
        ranks = {bytes([byte]): byte for byte in range(256)}
        return byte_level_json(ranks, {"<|endoftext|>": self.eot}, None)
