"""Text in, text out: the sampler between two ends of a tokenizer."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from gptzoo.checkpoint.folder import Loaded
from gptzoo.data.tokenizers import StreamDecoder, Tokenizer
from gptzoo.errors import InputError
from gptzoo.sampling.generate import generate, stream
from gptzoo.sampling.spec import SamplingSpec


def encode_prompt(loaded: Loaded, prompt: str) -> list[int]:
    """The ids of a prompt; an empty one becomes the token that ends a text, if there is one. Raises InputError."""
    tokenizer = tokenizer_of(loaded)
    if ids := list(tokenizer.encode(prompt)):
        return ids
    if tokenizer.eot is None:
        raise InputError(f"tokenizer {tokenizer.name!r} has no token to start a text with; give a --prompt")
    return [tokenizer.eot]


def tokenizer_of(loaded: Loaded) -> Tokenizer:
    if loaded.tokenizer is None:
        raise InputError(f"{loaded.folder}: has no tokenizer.json, so text cannot be read or written with this model")
    return loaded.tokenizer


def text_spec(loaded: Loaded, **fields: Any) -> SamplingSpec:
    """A SamplingSpec that also stops where the tokenizer ends a text."""
    eot = tokenizer_of(loaded).eot
    return SamplingSpec.model_validate({"stop_tokens": () if eot is None else (eot,), **fields})


def sample_texts(loaded: Loaded, prompt: str, spec: SamplingSpec, n_samples: int) -> list[dict[str, Any]]:
    """`n_samples` continuations of one prompt: text (without the prompt) and token ids of each."""
    ids = encode_prompt(loaded, prompt)
    rows = generate(loaded.model, [ids] * n_samples, spec, loaded.tokenizer)
    return [{"text": tokenizer_of(loaded).decode(row), "tokens": row} for row in rows]


def stream_text(loaded: Loaded, prompt: str, spec: SamplingSpec) -> Iterator[str]:
    """The continuation of a prompt in pieces, each of whole characters."""
    decoder = StreamDecoder(tokenizer_of(loaded))
    for (token,) in stream(loaded.model, [encode_prompt(loaded, prompt)], spec, loaded.tokenizer):
        if token is not None:
            yield decoder.feed(token)
    yield decoder.flush()
