"""Sequence-to-sequence models for gptzoo: `"architecture": "encoder_decoder"`, trained with `"batching": "pairs"`."""

from __future__ import annotations

import gptzoo
from gptzoo_seq2seq.cross import CrossAttention
from gptzoo_seq2seq.encoder_decoder import EncoderDecoder
from gptzoo_seq2seq.pairs import Pairs

__all__ = ["CrossAttention", "EncoderDecoder", "Pairs"]


@gptzoo.hookimpl
def gptzoo_components() -> list[type[gptzoo.Component]]:
    return [EncoderDecoder, CrossAttention, Pairs]
