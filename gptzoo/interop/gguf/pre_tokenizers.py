"""The pre-tokenizers that llama.cpp knows by a name, as those of a tokenizer.json.

A pre-tokenizer splits a text into words by regular expressions, one after the other. GGUF files only have its name.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
_SUFFIXES = "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_AFTER_NUMBERS = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_LLAMA3 = rf"{_SUFFIXES}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}{{1,3}}{_AFTER_NUMBERS}"
_QWEN2 = rf"{_SUFFIXES}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}{_AFTER_NUMBERS}"
_UPPER, _LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
_BEFORE = r"[^\r\n\p{L}\p{N}]?"
_AFTER_O200K = r"| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_O200K = (
    rf"{_BEFORE}{_UPPER}*{_LOWER}+{_SUFFIXES}?|{_BEFORE}{_UPPER}+{_LOWER}*{_SUFFIXES}?|\p{{N}}{{1,3}}{_AFTER_O200K}"
)
_TEKKEN = rf"{_BEFORE}{_UPPER}*{_LOWER}+|{_BEFORE}{_UPPER}+{_LOWER}*|\p{{N}}{_AFTER_O200K}"
_DEEPSEEK3 = (
    r"\p{N}{1,3}",
    "[\u4e00-\u9fa5\u3040-\u309f\u30a0-\u30ff]+",
    "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\r\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+"
    "| ?[\\p{P}\\p{S}]+[\r\n]*|\\s*[\r\n]+|\\s+(?!\\S)|\\s+",
)
_DIGITS = r"\p{N}"
# tiktoken writes the same words with possessive quantifiers.
_SAME = {r"'(?:[sdmt]|ll|ve|re)| ?\p{L}++| ?\p{N}++| ?[^\s\p{L}\p{N}]++|\s++\z|\s+(?!\S)|\s": GPT2}


@dataclass(frozen=True)
class PreTokenizer:
    """The expressions of a pre-tokenizer, and what llama.cpp assumes of its vocabulary."""

    expressions: tuple[str, ...]
    ignore_merges: bool = False
    """True: a word that is a token is this token, even if no merges lead to it."""
    adds_bos: bool = False
    """True: texts start with BOS unless the file says otherwise."""

    def as_json(self) -> dict[str, Any]:
        """Return the pre-tokenizer of a tokenizer.json."""
        splits = [
            {"type": "Split", "pattern": {"Regex": expression}, "behavior": "Isolated", "invert": False}
            for expression in self.expressions
            if expression != GPT2
        ]
        words = {
            "type": "ByteLevel",
            "add_prefix_space": False,
            "trim_offsets": True,
            "use_regex": GPT2 in self.expressions,
        }
        return {"type": "Sequence", "pretokenizers": [*splits, words]} if splits else words


_GPT2, _DIGITS_GPT2 = PreTokenizer((GPT2,)), PreTokenizer((_DIGITS, GPT2))
_QWEN = PreTokenizer((_QWEN2,))

PRE_TOKENIZERS: Mapping[str, PreTokenizer] = {
    "gpt-2": _GPT2,
    "phi-2": _GPT2,
    "olmo": _GPT2,
    "mpt": _GPT2,
    "jais": _GPT2,
    "exaone4": _GPT2,
    "roberta-bpe": _GPT2,
    "llama-bpe": PreTokenizer((_LLAMA3,), ignore_merges=True, adds_bos=True),
    "llama3": PreTokenizer((_LLAMA3,), ignore_merges=True, adds_bos=True),
    "llama-v3": PreTokenizer((_LLAMA3,), ignore_merges=True, adds_bos=True),
    "falcon3": PreTokenizer((_LLAMA3,), ignore_merges=True, adds_bos=True),
    "dbrx": PreTokenizer((_LLAMA3,)),
    "smaug-bpe": PreTokenizer((_LLAMA3,)),
    "glm4": PreTokenizer((_LLAMA3,)),
    "chatglm-bpe": PreTokenizer((_LLAMA3,)),
    "qwen2": _QWEN,
    "deepseek-r1-qwen": _QWEN,
    "megrez": _QWEN,
    "stablelm2": _QWEN,
    "smollm": _DIGITS_GPT2,
    "starcoder": _DIGITS_GPT2,
    "refact": _DIGITS_GPT2,
    "command-r": _DIGITS_GPT2,
    "codeshell": _DIGITS_GPT2,
    "exaone": _DIGITS_GPT2,
    "minerva-7b": _DIGITS_GPT2,
    "deepseek-v3": PreTokenizer(_DEEPSEEK3),
    "tekken": PreTokenizer((_TEKKEN,), ignore_merges=True, adds_bos=True),
    "gpt-4o": PreTokenizer((_O200K,)),
    "llama4": PreTokenizer((_O200K,)),
}
"""Pre-tokenizers by their names in `tokenizer.ggml.pre`. An export takes the first name that fits."""


def find_expressions(pre_tokenizer: object) -> tuple[str, ...] | None:
    """Return the expressions of the pre-tokenizer in a tokenizer.json. None if it does anything else."""
    if not isinstance(pre_tokenizer, dict):
        return None
    if pre_tokenizer.get("type") == "Sequence":
        parts = [find_expressions(part) for part in pre_tokenizer.get("pretokenizers", [])]
        return None if None in parts else tuple(expression for part in parts for expression in part or ())
    if pre_tokenizer.get("type") == "ByteLevel" and not pre_tokenizer.get("add_prefix_space"):
        return (GPT2,) if pre_tokenizer.get("use_regex", True) else ()
    if pre_tokenizer.get("type") == "Digits":
        return (_DIGITS,) if pre_tokenizer.get("individual_digits") else None
    is_split = pre_tokenizer.get("type") == "Split" and pre_tokenizer.get("behavior") == "Isolated"
    expression = pre_tokenizer.get("pattern", {}).get("Regex")
    if isinstance(expression, str):
        expression = _SAME.get(expression, expression)
    return (expression,) if is_split and not pre_tokenizer.get("invert") and isinstance(expression, str) else None
