"""The tokenizer of a transformers checkpoint, with the special tokens that its files name."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gptzoo.data.tokenizers.bpe import END_OF_TEXT, BpeTokenizer
from gptzoo.data.tokenizers.special_tokens import SpecialTokens, add_special_tokens
from gptzoo.data.tokenizers.tokenizer import Tokenizer
from gptzoo.errors import DataError, FolderError
from gptzoo.interop.chat_templates import read_chat_templates
from gptzoo.interop.stored_tensors import read_json_object
from gptzoo.reference import Reference

if TYPE_CHECKING:
    import tokenizers

TOKENIZER = "tokenizer.json"
TOKENIZER_CONFIG = "tokenizer_config.json"
_SPECIAL_TOKENS_MAP = "special_tokens_map.json"
_ID_FILES = ("generation_config.json", "config.json")  # files with `eos_token_id`
_NAMED_TOKENS = tuple(f"{name}_token" for name in ("bos", "eos", "unk", "sep", "pad", "cls", "mask"))
# End tokens of well-known models. Their names count only if no file of the checkpoint names an end token.
_WELL_KNOWN = (*END_OF_TEXT, "<eos>", "<|im_end|>", "<|end|>", "<end_of_turn>", "<｜end▁of▁sentence｜>")
# Classes of transformers 4 that add BOS by the setting `add_bos_token`, whatever the post-processor does.
_BOS_BY_SETTING = frozenset(
    f"{family}Tokenizer{kind}" for family in ("Llama", "CodeLlama", "Gemma", "Cohere") for kind in ("", "Fast")
)
_PROBES = ("a", "0", " a", "\n")  # texts to find the tokens around a text; a vocabulary may lack some characters


@dataclass
class TokenizerFiles:
    """The files of a checkpoint folder that describe its tokenizer, and notes for the user about them."""

    folder: Path
    model_vocab_size: int
    notes: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        names = (TOKENIZER_CONFIG, _SPECIAL_TOKENS_MAP, *_ID_FILES)
        self.files = {
            name: read_json_object(self.folder / name) if (self.folder / name).is_file() else {} for name in names
        }

    def read(self) -> Tokenizer:
        """Return the tokenizer of tokenizer.json with its special tokens. Raises FolderError."""
        file = self.folder / TOKENIZER
        try:
            # Not the strict JSON parser: `tokenizers` checks the file, which may have 100,000s of entries.
            state = json.loads(file.read_text(encoding="utf-8"))
            config: Any = Reference("tokenizer").validate("bpe")
            tokenizer: BpeTokenizer = config.build(
                add_special_tokens(state, SpecialTokens()) if isinstance(state, dict) else state
            )
        except (OSError, ValueError, DataError) as error:
            raise FolderError(f"{file}: {error}; remove this file to import the model without a tokenizer") from None
        if (n_unknown := tokenizer.vocab_size - self.model_vocab_size) > 0:
            self.notes.append(f"{file.name} has {n_unknown} ids beyond the model's vocabulary")
        prefix = self._read_prefix(tokenizer.library_tokenizer)
        end = self._find_end_tokens(tokenizer, tokenizer.library_tokenizer)
        in_text = not self.files[TOKENIZER_CONFIG].get("split_special_tokens", False)
        special = SpecialTokens(
            prefix, tuple(end), in_text, _by_name(tokenizer, end), self._read_names(), self._read_chat_templates()
        )
        return _with_special_tokens(tokenizer, special)

    def complete(self, tokenizer: Tokenizer) -> Tokenizer:
        """Return a tokenizer that is not in the checkpoint, such as that of its family, with the model's end tokens."""
        end = self._find_end_tokens(tokenizer, None)
        names, templates = self._read_names(), self._read_chat_templates()
        is_complete = tuple(end) == tokenizer.end_tokens and not templates
        if is_complete or not isinstance(tokenizer.state, dict | None):
            return tokenizer
        special = SpecialTokens((), tuple(end), False, _by_name(tokenizer, end), names, templates)
        return _with_special_tokens(tokenizer, special)

    def _read_names(self) -> dict[str, str]:
        """Return the special tokens that the files name, such as `eos_token`, as text."""
        named = {key: self._token_name(key) for key in _NAMED_TOKENS}
        return {key: name[1] for key, name in named.items() if name is not None}

    def _read_chat_templates(self) -> dict[str, str]:
        source = str(self.folder / TOKENIZER_CONFIG)
        return read_chat_templates(self.folder, self.files[TOKENIZER_CONFIG], source)

    # ------------------------------------------------------------------ the start of a text

    def _read_prefix(self, library: tokenizers.Tokenizer) -> tuple[int, ...]:
        """Return the ids that a model was trained with before each text, such as BOS.

        They are those of the post-processor in tokenizer.json. `add_bos_token` adds BOS where this processor does not,
        for the classes that add it in transformers 4. (transformers 5 ignores the setting beside a tokenizer.json.)
        Raises FolderError for ids that the model lacks.
        """
        config = self.files[TOKENIZER_CONFIG]
        prefix, suffix = tokens_around_a_text(library)
        adds_bos = config.get("add_bos_token")
        if not prefix and adds_bos and config.get("tokenizer_class") in _BOS_BY_SETTING:
            prefix = self._named_ids(library, "bos_token")
            self.notes.append(
                f"{TOKENIZER_CONFIG} sets add_bos_token, so each text starts with {_names(library, prefix)}, as in "
                f"transformers 4. The post-processor of {TOKENIZER} does not add it, so transformers 5 does not"
            )
        if prefix and adds_bos is False:
            self.notes.append(
                f"{TOKENIZER} starts each text with {_names(library, prefix)}, as in transformers 5, although "
                f"{TOKENIZER_CONFIG} sets add_bos_token to false. Remove its post-processor to leave it out"
            )
        if suffix:
            self.notes.append(
                f"transformers ends each text with {_names(library, suffix)}; gptzoo does not, because a model cannot "
                "continue a text that has ended. Documents of training data are separated by the end-of-text token"
            )
        if any(token >= self.model_vocab_size for token in prefix):
            raise FolderError(
                f"{self.folder}: the tokenizer starts each text with {_names(library, prefix)}, which is outside the "
                f"model's vocabulary of {self.model_vocab_size} ids; remove {TOKENIZER} to import without a tokenizer"
            )
        return prefix

    def _named_ids(self, library: tokenizers.Tokenizer, key: str) -> tuple[int, ...]:
        """Return the id of the token that the tokenizer's files name in `key`, or nothing if there is none."""
        named = self._token_name(key)
        if named is None:
            return ()
        file, name = named
        token = library.token_to_id(name)
        if token is None:
            self.notes.append(f"{file}: {key} {name!r} is not in {TOKENIZER}, so it is not used")
            return ()
        return (token,)

    def _token_name(self, key: str) -> tuple[str, str] | None:
        """Return a file and the name of a token in it, such as `eos_token`. Raises FolderError for another type."""
        for file in (TOKENIZER_CONFIG, _SPECIAL_TOKENS_MAP):
            value = self.files[file].get(key)
            name = value.get("content") if isinstance(value, dict) else value
            if isinstance(name, str):
                return file, name
            if value is not None:
                raise FolderError(f"{self.folder / file}: $.{key}: expected the text of a token, got {value!r}")
        return None

    # ------------------------------------------------------------------ the end of a text

    def _find_end_tokens(self, tokenizer: Tokenizer, library: tokenizers.Tokenizer | None) -> dict[int, list[str]]:
        """Return the end tokens with the files that name them, the tokenizer's own end-of-text token first."""
        found: dict[int, list[str]] = {}
        if library is not None and (named := self._token_name("eos_token")) is not None:
            for token in self._named_ids(library, "eos_token"):
                found.setdefault(token, []).append(named[0])
        for file in _ID_FILES:
            for token in self._end_ids(file):
                if 0 <= token < min(tokenizer.vocab_size, self.model_vocab_size):
                    found.setdefault(token, []).append(file)
                else:
                    self.notes.append(f"{file}: eos_token_id {token} is not a token of this model, so it is not used")
        if not found and library is not None:
            ids = [library.token_to_id(name) for name in _WELL_KNOWN]
            found = {token: ["well-known names"] for token in ids if token is not None}
        if not found and tokenizer.eot is not None:
            found = {tokenizer.eot: [f"tokenizer {tokenizer.name}"]}
        if not found:
            self.notes.append("no end token is known, so generated texts end at the maximum length only")
        return found

    def _end_ids(self, file: str) -> list[int]:
        """Return the ids in `eos_token_id` of a file. Raises FolderError for another type."""
        value = self.files[file].get("eos_token_id")
        ids = value if isinstance(value, list) else [] if value is None else [value]
        if any(type(token) is not int for token in ids):
            raise FolderError(
                f"{self.folder / file}: $.eos_token_id: expected a token id or a list of them, got {value}"
            )
        return ids


def _with_special_tokens(tokenizer: Tokenizer, special: SpecialTokens) -> Tokenizer:
    completed: Tokenizer = tokenizer.config.build(add_special_tokens(tokenizer.state, special))
    return completed


def tokens_around_a_text(library: tokenizers.Tokenizer) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the ids that the post-processor adds before and after a text."""
    for text in _PROBES:
        ids, plain = library.encode(text).ids, library.encode(text, add_special_tokens=False).ids
        for start in range(len(ids) - len(plain) + 1):
            if plain and ids[start : start + len(plain)] == plain:
                return tuple(ids[:start]), tuple(ids[start + len(plain) :])
    return (), ()


def _names(library: tokenizers.Tokenizer, ids: tuple[int, ...]) -> str:
    return " ".join(f"{library.id_to_token(token)} ({token})" for token in ids)


def _by_name(tokenizer: Tokenizer, end: dict[int, list[str]]) -> dict[str, tuple[str, ...]]:
    """Return the files that name each end token, by its text."""
    library = getattr(tokenizer, "library_tokenizer", None)
    return {str(library.id_to_token(token) if library else token): tuple(files) for token, files in end.items()}
