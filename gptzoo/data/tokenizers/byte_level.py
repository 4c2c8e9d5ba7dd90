"""Byte-level vocabularies in the form of a `tokenizer.json`: GPT-2's stand-ins for bytes, and merges from ranks."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any


def _stand_ins() -> dict[int, str]:
    """Return GPT-2's mapping from bytes to printable characters: unprintable bytes use characters from U+0100 on."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    return {byte: chr(byte) for byte in printable} | {byte: chr(0x100 + index) for index, byte in enumerate(others)}


STAND_IN = _stand_ins()
_BYTE = {character: byte for byte, character in STAND_IN.items()}


def piece_of_bytes(data: bytes) -> str:
    """Return the piece that stands for some bytes in a byte-level vocabulary."""
    return "".join(STAND_IN[byte] for byte in data)


def bytes_of_piece(piece: str) -> bytes:
    """Return the bytes of a piece: those of its stand-ins, or its UTF-8 if it has any other character.

    `tokenizers` decodes a piece in the same way. Such pieces were added to a vocabulary as plain text.
    """
    try:
        return bytes(_BYTE[character] for character in piece)
    except KeyError:
        return piece.encode("utf-8")


def byte_level_json(
    ranks: Mapping[bytes, int], special_tokens: Mapping[str, int], expression: str | None
) -> dict[str, Any]:
    """Return the tokenizer.json of a byte-level BPE.

    ranks: id of each token, by its bytes. Bytes are merged in the order of these ids.
    special_tokens: ids of special tokens, by name.
    expression: regular expression whose matches are the words. Default: GPT-2's.
    """
    vocabulary = {piece_of_bytes(data): rank for data, rank in sorted(ranks.items(), key=lambda item: item[1])}
    merges = [_last_merge(data, ranks) for data in sorted(ranks, key=ranks.__getitem__) if len(data) > 1]
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": expression is None}
    split = {"type": "Split", "pattern": {"Regex": expression}, "behavior": "Isolated", "invert": False}
    words = byte_level if expression is None else {"type": "Sequence", "pretokenizers": [split, byte_level]}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [special_token_entry(name, token) for name, token in special_tokens.items()],
        "normalizer": None,
        "pre_tokenizer": words,
        "post_processor": None,
        "decoder": {**byte_level, "use_regex": True},
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": True,  # a whole word that is a token is this token, even if no merges lead to it
            # Special tokens are in the vocabulary, because the library numbers other added tokens without gaps.
            "vocab": vocabulary | dict(special_tokens),
            "merges": [list(merge) for merge in merges if merge is not None],
        },
    }


def special_token_entry(name: str, token: int) -> dict[str, Any]:
    """Return the entry of a special token in `added_tokens` of a tokenizer.json."""
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    return {"id": token, "content": name, **flags}


def _last_merge(data: bytes, ranks: Mapping[bytes, int]) -> tuple[str, str] | None:
    """Return the two pieces whose merge gives a token, or None if merges of lower rank leave more than two.

    The ranks of byte-pair encoding leave exactly two. Merges in a longer word are the same, because no merge can cross
    the ends of a token that is merged later.
    """
    parts = [data[index : index + 1] for index in range(len(data))]
    limit = ranks[data]
    while len(parts) > 2:
        candidates = [(ranks.get(parts[i] + parts[i + 1], limit), i) for i in range(len(parts) - 1)]
        rank, index = min(candidates)
        if rank >= limit:
            return None
        parts[index : index + 2] = [parts[index] + parts[index + 1]]
    return piece_of_bytes(parts[0]), piece_of_bytes(parts[1])


def ruby_expression(expression: str) -> str:
    """Return a regular expression of tiktoken in the syntax of `tokenizers`, whose library is Oniguruma.

    In Ruby's syntax, `$` matches at each end of a line, and `{1,3}+` repeats a group instead of being possessive. At
    the end of an alternative, a possessive quantifier matches the same as a greedy one.
    """
    return re.sub(r"(\{\d+,\d*\})\+", r"\1", expression).replace("$|", r"\z|")
