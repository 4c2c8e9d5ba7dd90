"""A tokenizer as the metadata of a GGUF file."""

from __future__ import annotations

import re
from typing import Any

from gptzoo.data.tokenizers.tokenizer import Tokenizer
from gptzoo.errors import DataError
from gptzoo.interop.chat_templates import DEFAULT
from gptzoo.interop.gguf.pre_tokenizers import PRE_TOKENIZERS, find_expressions
from gptzoo.interop.gguf.tokenizer_in import merges_of_scores

_NORMAL, _UNKNOWN, _CONTROL, _USER_DEFINED, _UNUSED, _BYTE = range(1, 7)
_BYTE_TOKEN = re.compile(r"<0x[0-9A-F]{2}>")
_NO_MERGE = "\u00ff \u00fe"  # of two bytes that UTF-8 never has; llama.cpp needs a merge
_HINT = "Export without a tokenizer by --no-tokenizer."


def tokenizer_metadata(tokenizer: Tokenizer | None, vocab_size: int) -> tuple[dict[str, Any], list[str]]:
    """Return the metadata that describe a tokenizer to llama.cpp, and notes for the user.

    vocab_size: that of the model. Ids that the tokenizer lacks become unused tokens.

    Raises DataError if llama.cpp cannot express the tokenizer.
    """
    if tokenizer is None:
        return {"tokenizer.ggml.model": "none"}, ["no tokenizer: llama.cpp can only take token ids"]
    state = tokenizer.tokenizer_json()
    model = state.get("model", {})
    is_sentencepiece, normalizer = bool(model.get("byte_fallback")), state.get("normalizer")
    if model.get("type") != "BPE" or not (is_sentencepiece or normalizer in (None, {"type": "NFC"})):
        raise _refusal(tokenizer, "only byte-level BPE and SentencePiece BPE can be expressed")
    tokens, types = _tokens(tokenizer, state, vocab_size)
    kind = _sentencepiece(tokenizer, state, tokens) if is_sentencepiece else _byte_level(tokenizer, state)
    notes: list[str] = []
    if normalizer == {"type": "NFC"}:
        notes.append("llama.cpp does not normalise texts to NFC, as the tokenizer does")
    special = _special_ids(tokenizer, state, notes)
    metadata = {**kind, "tokens": tokens, "token_type": types, **special}
    values = {f"tokenizer.ggml.{key}": value for key, value in metadata.items()}
    templates = tokenizer.special_tokens.chat_templates if tokenizer.special_tokens is not None else {}
    for name, template in templates.items():
        values["tokenizer.chat_template" + ("" if name == DEFAULT else f".{name}")] = template
    if others := sorted(templates.keys() - {DEFAULT}):
        values["tokenizer.chat_templates"] = others
    return values, notes


def _tokens(tokenizer: Tokenizer, state: dict[str, Any], vocab_size: int) -> tuple[list[str], list[int]]:
    """Return the texts and types of all ids."""
    texts: dict[int, str] = {token: text for text, token in state["model"]["vocab"].items()}
    types = {token: _BYTE if _BYTE_TOKEN.fullmatch(text) else _NORMAL for token, text in texts.items()}
    if not state["model"].get("byte_fallback"):
        types = dict.fromkeys(texts, _NORMAL)
    for entry in state.get("added_tokens", []):
        texts[entry["id"]] = entry["content"]
        types[entry["id"]] = _CONTROL if entry["special"] else _USER_DEFINED
    unknown = state["model"]["vocab"].get(state["model"].get("unk_token"))
    if unknown is not None:
        types[unknown] = _UNKNOWN
    if texts and max(texts) >= vocab_size:
        raise _refusal(tokenizer, f"it has ids up to {max(texts)}, beyond the model's vocabulary of {vocab_size}")
    return (
        [texts.get(token, f"[PAD{token}]") for token in range(vocab_size)],
        [types.get(token, _UNUSED) for token in range(vocab_size)],
    )


def _byte_level(tokenizer: Tokenizer, state: dict[str, Any]) -> dict[str, Any]:
    model = state["model"]
    if "ByteLevel" not in str(state.get("decoder")):
        raise _refusal(tokenizer, "its tokens are not those of a byte-level BPE")
    merges = [merge.split(" ") if isinstance(merge, str) else merge for merge in model["merges"]]
    is_complete = {left + right for left, right in merges} >= {text for text in model["vocab"] if len(text) > 1} - {
        entry["content"] for entry in state.get("added_tokens", [])
    }
    expressions, ignores = find_expressions(state.get("pre_tokenizer")), bool(model.get("ignore_merges"))
    for name, pre_tokenizer in PRE_TOKENIZERS.items():
        if pre_tokenizer.expressions == expressions and (is_complete or pre_tokenizer.ignore_merges == ignores):
            return {"model": "gpt2", "pre": name, "merges": [" ".join(merge) for merge in merges] or [_NO_MERGE]}
    raise _refusal(tokenizer, f"llama.cpp has no name for its pre-tokenizer, which splits by {expressions}")


def _sentencepiece(tokenizer: Tokenizer, state: dict[str, Any], tokens: list[str]) -> dict[str, Any]:
    """Return the metadata of a SentencePiece BPE. The scores of tokens are their ranks among the merges."""
    model = state["model"]
    merges = [merge.split(" ") if isinstance(merge, str) else list(merge) for merge in model["merges"]]
    ranks: dict[str, int] = {}
    for rank, (left, right) in enumerate(merges):
        ranks.setdefault(left + right, rank)
    scores = [-float(ranks.get(text, 0)) for text in tokens]
    if merges_of_scores(model["vocab"], scores) != merges:
        raise _refusal(tokenizer, "its merges do not follow from scores of its tokens")
    normalizer, pre_tokenizer = str(state.get("normalizer")), state.get("pre_tokenizer") or {}
    prepends = "'Prepend'" in normalizer or pre_tokenizer.get("prepend_scheme") in ("first", "always")
    return {"model": "llama", "pre": "default", "scores": scores, "add_space_prefix": prepends}


def _special_ids(tokenizer: Tokenizer, state: dict[str, Any], notes: list[str]) -> dict[str, Any]:
    """Return the ids of special tokens. llama.cpp knows one token before a text and two that end it."""
    if len(tokenizer.prefix) > 1:
        raise _refusal(tokenizer, f"texts start with {len(tokenizer.prefix)} tokens, llama.cpp adds one")
    ends = tokenizer.end_tokens
    if not ends:
        notes.append("the tokenizer has no end token, so llama.cpp takes another token for it")
    if len(ends) > 2:
        notes.append(f"a GGUF file names two end tokens; these are left out: {', '.join(map(str, ends[2:]))}")
    names = tokenizer.special_tokens.names if tokenizer.special_tokens is not None else {}
    ids = {entry["content"]: entry["id"] for entry in state.get("added_tokens", [])} | state["model"]["vocab"]
    found: dict[str, Any] = {
        key: ids[names[name]]
        for key, name in (("bos", "bos_token"), ("unknown", "unk_token"), ("padding", "pad_token"))
        if names.get(name) in ids
    }
    found.update(zip(("eos", "eot"), ends, strict=False))
    if tokenizer.prefix:
        found["bos"] = tokenizer.prefix[0]
    elif ends:
        found.setdefault("bos", ends[0])  # llama.cpp would take token 11
    return {"add_bos_token": bool(tokenizer.prefix), **{f"{key}_token_id": token for key, token in found.items()}}


def _refusal(tokenizer: Tokenizer, reason: str) -> DataError:
    return DataError(f"tokenizer {tokenizer.name!r} cannot be written to a GGUF file: {reason}. {_HINT}")
