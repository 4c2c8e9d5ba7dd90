"""Processors that let only such text be written as a regular expression or a JSON schema allows.

llguidance says what may come next, in some microseconds a token. Of the libraries for this it has one wheel for every
Python from 3.9 on and no dependencies, is MIT-licensed and released month by month, works on bytes, so that a token may
be part of a character, and refuses what it does not support of a schema instead of passing over it. outlines-core makes
an index of the whole vocabulary for each pattern first, xgrammar brings transformers and triton along, and
lm-format-enforcer is not released any more.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from gptzoo.component import Config
from gptzoo.data.tokenizers.tokenizer import Tokenizer
from gptzoo.errors import InputError
from gptzoo.sampling.processors.constraints import Constraint
from gptzoo.sampling.processors.processor import NEVER
from gptzoo.sampling.processors.vocabulary import pieces
from gptzoo.sampling.sequence import TokenSequence


class _Read(NamedTuple):
    """A text that has been read, and may go on."""

    matcher: Any
    allowed: np.ndarray  # bool, by token id, the one that ends a text included
    finished: bool


class Grammar(Constraint):
    """Base of processors whose new tokens make a text of a grammar.

    The token that ends a text is possible exactly where the grammar may end. Where it must, or where it may and the
    tokenizer has no such token but nothing else can follow either, the row is finished. A row that has ended stays as
    it is. Of a row that is cut off by `max_new_tokens`, the text is the beginning of one of the grammar.

    Raises InputError where no token of the tokenizer goes on as the grammar demands: without a token for every byte,
    that can be found out on the way only.
    """

    def __init__(self, config: Config, tokenizer: Tokenizer | None = None):
        super().__init__(config, tokenizer)
        self.vocabulary = self.require_tokenizer()
        library = _library()
        source = f'%llguidance {{"no_forcing": true}}\n{self.lark()}'  # any token that fits, not only the longest
        self.matcher = library.LLMatcher(_vocabulary(self.vocabulary), source, log_level=0)
        if self.matcher.is_error():
            raise InputError(f"logits_processor {self.name!r}: {_reason(self.matcher)}")
        self.read: dict[tuple[int, ...], _Read | None] = {}  # by new tokens, those of the last step; None has ended

    def lark(self) -> str:
        """The grammar in llguidance's own language, beginning with the rule `start`."""
        raise TypeError(f"{type(self).__name__} does not implement lark")

    def __call__(self, logits: Tensor, rows: Sequence[TokenSequence]) -> Tensor:
        self.read = {tokens: self._read(tokens) for tokens in [tuple(row.new) for row in rows]}
        excluded = np.zeros(logits.shape, dtype=np.bool_)
        for index, row in enumerate(rows):
            read = self.read[tuple(row.new)]
            if read is not None and not read.finished:
                n_tokens = min(len(read.allowed), excluded.shape[1])
                excluded[index] = True
                excluded[index, :n_tokens] = ~read.allowed[:n_tokens]
        return self.checked(logits.masked_fill(torch.from_numpy(excluded).to(logits.device), NEVER))

    def finished(self, row: TokenSequence) -> bool:
        tokens = tuple(row.new)
        self.read[tokens] = read = self._read(tokens)
        return read is None or read.finished

    def _read(self, tokens: tuple[int, ...]) -> _Read | None:
        """What may follow; from the last step's, where that was one token less."""
        if tokens in self.read:
            return self.read[tokens]
        if self.vocabulary.eot in tokens:
            return None
        matcher, unread = self.matcher, tokens
        if tokens[:-1] in self.read:
            before = self.read[tokens[:-1]]
            if before is None:
                return None
            matcher, unread = before.matcher, tokens[-1:]
        matcher = matcher.deep_copy()
        if matcher.try_consume_tokens(list(unread)) < len(unread):
            return None
        bits = np.frombuffer(matcher.compute_bitmask(), dtype=np.uint8)
        allowed = np.unpackbits(bits, bitorder="little")[: self.vocabulary.vocab_size].astype(np.bool_)
        if matcher.is_error():
            raise InputError(f"logits_processor {self.name!r}: {self._stuck(matcher, tokens)}")
        n_more = int(allowed.sum()) - (self.vocabulary.eot is not None and bool(allowed[self.vocabulary.eot]))
        return _Read(matcher, allowed, finished=n_more == 0)

    def _stuck(self, matcher: Any, tokens: tuple[int, ...]) -> str:
        if not matcher.get_error().startswith("NoExtensionBias"):
            return _reason(matcher)
        text = self.vocabulary.decode(tokens)
        return (
            f"no token of tokenizer {self.vocabulary.name!r} goes on from {text[-40:]!r} as it demands; "
            "a tokenizer that has all bytes can write every text"
        )


class Regex(Grammar):
    """Lets the new tokens be a text that matches a regular expression from its beginning to its end.

    The syntax is that of Rust's `regex`: Python's without look-around and back-references, and without anchors, for
    which there is no need. `\\d` is a digit from 0 to 9.
    """

    name = "regex"
    paper = "Willard and Louf 2023, Efficient Guided Generation for Large Language Models, arXiv:2307.09702"

    class Config(Grammar.Config):
        pattern: str = Field(examples=[r"\d{4}-\d{2}-\d{2}"])
        """What the whole of the new text matches."""

    def lark(self) -> str:
        source = f"start: TEXT\nTEXT: {_literal(self.config.pattern)}"
        alphabet = _alphabet(pieces(self.vocabulary))
        return source if alphabet is None else f"{source} & {_literal(alphabet)}"


class JsonSchema(Grammar):
    """Lets the new tokens be a JSON value that is valid by a JSON schema."""

    name = "json_schema"
    paper = "Geng et al. 2025, JSONSchemaBench: Generating Structured Outputs from Language Models, arXiv:2501.10868"

    class Config(Grammar.Config):
        definition: dict[str, Any] = Field({}, examples=[{"type": "array", "items": {"type": "integer"}}])
        """The schema; {} is any JSON. What cannot be followed of one is refused before the first token."""
        whitespace: bool = False
        """Whether there may be whitespace between the parts of the value."""

    def lark(self) -> str:
        options = {"whitespace_flexible": self.config.whitespace}
        return f"start: %json {json.dumps({**self.config.definition, 'x-guidance': options})}"


def _literal(pattern: str) -> str:
    return f"/{_library().regex_to_lark(pattern, 'd')}/"  # 'd': \d is [0-9]


def _alphabet(vocabulary: Sequence[bytes]) -> str | None:
    """The pattern of what a vocabulary without a token for each byte can write, character by character."""
    if {bytes([byte]) for byte in (*range(0xC0), *range(0xC2, 0xF5))} <= set(vocabulary):  # those of UTF-8
        return None
    texts = {text for piece in vocabulary if (text := piece.decode("utf-8", errors="ignore")).encode() == piece}
    characters = [f"\\x{{{ord(text):x}}}" for text in sorted(texts) if len(text) == 1]
    return f"[{''.join(characters)}]*"


def _reason(matcher: Any) -> str:
    """The library's message, without what it quotes and where in our own grammar it stands."""
    lines = matcher.get_error().splitlines()
    explained = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
    return explained[0] if explained else re.sub(r"^at \d+\(\d+\): ", "", lines[0])


@lru_cache(maxsize=8)
def _vocabulary(tokenizer: Tokenizer) -> Any:
    """The library's form of a vocabulary; one without an id that ends a text gets one more."""
    library = _library()
    return library.LLTokenizer(library.TokenizerWrapper(_Vocabulary(tokenizer)))


class _Vocabulary:
    """What the library asks of a tokenizer. It marks tokens that stand for no text by a byte that is not of UTF-8."""

    bos_token_id = None

    def __init__(self, tokenizer: Tokenizer):
        known = pieces(tokenizer)
        n_tokens = len(known) + (tokenizer.eot is None)
        self.eos_token_id = len(known) if tokenizer.eot is None else tokenizer.eot
        self.special_token_ids = [token for token in range(n_tokens) if token >= len(known) or not known[token]]
        self.tokens = list(known) + [b""] * (n_tokens - len(known))
        for token in self.special_token_ids:
            self.tokens[token] = b"\xff[%d]" % token

    def __call__(self, text: bytes) -> list[int]:
        return []  # asked for where tokens are forced, which they are not


def _library() -> Any:
    try:
        import llguidance
    except ImportError:
        raise InputError("regex and json_schema need the package llguidance: pip install 'gptzoo[grammar]'") from None
    return llguidance
