"""Export of a tokenizer as the files of a Hugging Face checkpoint: tokenizer.json and tokenizer_config.json."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gptzoo.data.tokenizers.bpe import import_tokenizers
from gptzoo.data.tokenizers.char import CharTokenizer
from gptzoo.data.tokenizers.special_tokens import SpecialTokens
from gptzoo.data.tokenizers.tokenizer import Tokenizer
from gptzoo.interop.chat_templates import DEFAULT
from gptzoo.interop.tokenizer_files import TOKENIZER, TOKENIZER_CONFIG, tokens_around_a_text
from gptzoo.utils.atomic import write_json

if TYPE_CHECKING:
    import tokenizers


def write_tokenizer(tokenizer: Tokenizer, folder: Path, *, max_length: int | None = None) -> list[str]:
    """Write the tokenizer into an existing folder, so that transformers reads the same ids from a text.

    The file of an imported tokenizer is unchanged, unless transformers 5 would not add its prefix.

    max_length: number of positions of the model, for `model_max_length`.

    Returns notes for the user about differences that remain. Raises DataError if a tokenizer.json cannot express the
    tokenizer.
    """
    state = tokenizer.tokenizer_json()
    library = import_tokenizers().Tokenizer.from_str(json.dumps(state))
    prefix, suffix = tokens_around_a_text(library)
    notes = []
    if tokenizer.prefix and prefix != tokenizer.prefix:
        state = {**state, "post_processor": _with_prefix(state.get("post_processor"), library, tokenizer.prefix)}
    elif prefix != tokenizer.prefix:
        notes.append(
            f"{TOKENIZER} starts each text with the tokens {list(prefix)}. gptzoo does not, because an earlier version "
            "imported the model; import it again"
        )
    if suffix:
        notes.append(f"{TOKENIZER} ends each text with the tokens {list(suffix)}. gptzoo does not")
    if isinstance(tokenizer, CharTokenizer):
        notes.append("transformers drops characters that tokenizer 'char' does not have. gptzoo refuses them")
    write_json(folder / TOKENIZER_CONFIG, _settings(tokenizer, library, max_length))
    (folder / TOKENIZER).write_text(json.dumps(state, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")
    return notes


def _with_prefix(
    post_processor: dict[str, Any] | None, library: tokenizers.Tokenizer, prefix: tuple[int, ...]
) -> dict[str, Any]:
    """Return a post-processor that puts tokens before each text, after the given one."""
    names = [library.id_to_token(token) for token in prefix]
    start = [{"SpecialToken": {"id": name, "type_id": 0}} for name in names]
    first, second = ({"Sequence": {"id": text, "type_id": 0}} for text in "AB")
    ids = {name: {"id": name, "ids": [token], "tokens": [name]} for name, token in zip(names, prefix, strict=True)}
    template = {
        "type": "TemplateProcessing",
        "single": [*start, first],
        "pair": [*start, first, *start, second],
        "special_tokens": ids,
    }
    return template if post_processor is None else {"type": "Sequence", "processors": [post_processor, template]}


def _settings(tokenizer: Tokenizer, library: tokenizers.Tokenizer, max_length: int | None) -> dict[str, Any]:
    """Return the content of tokenizer_config.json."""
    special = tokenizer.special_tokens or SpecialTokens()
    templates: object = [{"name": name, "template": text} for name, text in special.chat_templates.items()]
    if special.chat_templates.keys() <= {DEFAULT}:
        templates = special.chat_templates.get(DEFAULT)
    settings = {
        **special.names,
        "tokenizer_class": "PreTrainedTokenizerFast",  # reads tokenizer.json as it is, in transformers 4 and 5
        "clean_up_tokenization_spaces": False,
        "model_input_names": ["input_ids", "attention_mask"],  # decoders take no token_type_ids
        "split_special_tokens": not special.in_text,
        "model_max_length": max_length,
        "bos_token": _bos_name(tokenizer, special, library),
        "eos_token": None if tokenizer.eot is None else library.id_to_token(tokenizer.eot),
        "chat_template": templates,
    }
    return {name: value for name, value in settings.items() if value is not None}


def _bos_name(tokenizer: Tokenizer, special: SpecialTokens, library: tokenizers.Tokenizer) -> str | None:
    """Return the name of BOS: that of the imported files, or of the first token of the prefix."""
    first = library.id_to_token(tokenizer.prefix[0]) if tokenizer.prefix else None
    return special.names.get("bos_token", first)
