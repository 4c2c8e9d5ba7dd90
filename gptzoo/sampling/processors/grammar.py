"""Logits processors that constrain the text to a regular expression or a JSON schema, with llguidance.

llguidance computes the allowed tokens in microseconds per token. It works on bytes, so a token may be a part of a
character, and it rejects unsupported schema keywords instead of ignoring them. It has no dependencies, one
wheel for every Python since 3.9, an MIT license and monthly releases. The alternatives fit less well: outlines-core
first builds an index of the whole vocabulary for each pattern, xgrammar depends on transformers and triton, and
lm-format-enforcer is no longer released.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from types import ModuleType
from typing import NamedTuple, Protocol

import numpy as np
from pydantic import Field
from torch import Tensor

from gptzoo.component import Config
from gptzoo.data.tokenizers.tokenizer import Tokenizer
from gptzoo.errors import InputError
from gptzoo.sampling.processors.constraints import Constraint
from gptzoo.sampling.processors.processor import NEG_INF
from gptzoo.sampling.processors.schema_text import schema_text
from gptzoo.sampling.processors.vocabulary import token_bytes
from gptzoo.sampling.sequence import TokenSequence
from gptzoo.strict_model import Unicode, UnicodeJson
from gptzoo.utils.transfer import tensor_on


class _Matcher(Protocol):
    """The methods of `llguidance.LLMatcher` that this module uses. llguidance is optional and has no types."""

    def deep_copy(self) -> _Matcher: ...
    def try_consume_tokens(self, tokens: list[int]) -> int: ...
    def compute_bitmask(self) -> bytes: ...
    def is_accepting(self) -> bool: ...
    def is_error(self) -> bool: ...
    def get_error(self) -> str: ...


class _MatcherState(NamedTuple):
    """The grammar after some new tokens. The text may continue."""

    matcher: _Matcher
    allowed: np.ndarray  # bool, by token id, including the end-of-text token
    finished: bool  # True if only the end-of-text token may follow


class Grammar(Constraint):
    """Base class of processors whose generated text follows a grammar.

    The end-of-text token is possible exactly where the grammar may end. A sequence is finished where the grammar must
    end, or where it may end, no other token can follow and the tokenizer has no end-of-text token. Finished sequences
    are left unchanged. A text that is cut off by `max_new_tokens` is a prefix of a text of the grammar.

    Raises InputError if no token of the tokenizer can continue the text. With a tokenizer that lacks some bytes, this
    may happen in the middle of a text.
    """

    def __init__(self, config: Config, tokenizer: Tokenizer | None = None):
        super().__init__(config, tokenizer)
        self.vocabulary = self.require_tokenizer()
        self.end_tokens = {token for token in self.vocabulary.end_tokens if token < self.vocabulary.vocab_size}
        llguidance = _import_llguidance()
        # Without no_forcing only the longest token that fits would be allowed.
        source = f'%llguidance {{"no_forcing": true}}\n{self.lark()}'
        self.matcher: _Matcher = llguidance.LLMatcher(_ll_tokenizer(self.vocabulary), source, log_level=0)
        if self.matcher.is_error():
            raise InputError(f"logits_processor {self.name!r}: {_error_message(self.matcher)}")
        # States after the new tokens of the last step. None: the text has ended. They only save time.
        self.states: dict[tuple[int, ...], _MatcherState | None] = {}

    def lark(self) -> str:
        """Return the grammar in llguidance's dialect of Lark, starting with the rule `start`."""
        raise TypeError(f"{type(self).__name__} does not implement lark")

    def __call__(self, logits: Tensor, sequences: Sequence[TokenSequence]) -> Tensor:
        self.states = {tokens: self._state_after(tokens) for tokens in [tuple(s.new) for s in sequences]}
        excluded = np.zeros(logits.shape, dtype=np.bool_)
        for row, sequence in enumerate(sequences):
            state = self.states[tuple(sequence.new)]
            if state is not None and not state.finished:
                n_tokens = min(len(state.allowed), excluded.shape[1])
                excluded[row] = True
                excluded[row, :n_tokens] = ~state.allowed[:n_tokens]
        return self.require_possible(logits.masked_fill(tensor_on(logits.device, excluded), NEG_INF))

    def finished(self, sequence: TokenSequence) -> bool:
        tokens = tuple(sequence.new)
        self.states[tokens] = state = self._state_after(tokens)
        return state is None or state.finished

    def is_complete(self, sequence: TokenSequence) -> bool:
        state = self._state_after(tuple(sequence.new))
        return state is None or state.finished or state.matcher.is_accepting()

    def _state_after(self, tokens: tuple[int, ...]) -> _MatcherState | None:
        """Return the state after new tokens, continued from the last step's state if that is one token shorter."""
        if tokens in self.states:
            return self.states[tokens]
        if not self.end_tokens.isdisjoint(tokens):
            return None
        matcher, unread = self.matcher, tokens
        if tokens[:-1] in self.states:
            previous = self.states[tokens[:-1]]
            if previous is None:
                return None
            matcher, unread = previous.matcher, tokens[-1:]
        matcher = matcher.deep_copy()
        if matcher.try_consume_tokens(list(unread)) < len(unread):
            return None
        bits = np.frombuffer(matcher.compute_bitmask(), dtype=np.uint8)
        allowed = np.unpackbits(bits, bitorder="little")[: self.vocabulary.vocab_size].astype(np.bool_)
        if matcher.is_error():
            raise InputError(f"logits_processor {self.name!r}: {self._dead_end_message(matcher, tokens)}")
        if self.vocabulary.eot is not None:  # llguidance knows one end token
            allowed[list(self.end_tokens)] = allowed[self.vocabulary.eot]
        n_ends = int(allowed[list(self.end_tokens)].sum())
        return _MatcherState(matcher, allowed, finished=int(allowed.sum()) == n_ends)

    def _dead_end_message(self, matcher: _Matcher, tokens: tuple[int, ...]) -> str:
        if not matcher.get_error().startswith("NoExtensionBias"):
            return _error_message(matcher)
        if not tokens and {bytes([byte]) for byte in range(0x80)} <= set(token_bytes(self.vocabulary)):
            return "no text matches it, such as for a schema that refers to itself without an end"
        text = self.vocabulary.decode(tokens)
        return (
            f"no token of tokenizer {self.vocabulary.name!r} can continue {text[-40:]!r} as the grammar requires. "
            "A tokenizer with all bytes can write every text."
        )


class Regex(Grammar):
    """Regular-expression constraint: the generated text matches it from beginning to end.

    The syntax is that of Rust's `regex` crate: Python's syntax without look-around, back-references and anchors. `\\d`
    matches 0 to 9 only.
    """

    name = "regex"
    paper = "Willard and Louf 2023, Efficient Guided Generation for Large Language Models, arXiv:2307.09702"

    class Config(Grammar.Config):
        pattern: Unicode = Field(examples=[r"\d{4}-\d{2}-\d{2}"])
        """Regular expression that the whole generated text must match."""

    config: Config

    def lark(self) -> str:
        source = f"start: TEXT\nTEXT: {_lark_regex(self.config.pattern)}"
        alphabet = _alphabet_pattern(token_bytes(self.vocabulary))
        return source if alphabet is None else f"{source} & {_lark_regex(alphabet)}"


class JsonSchema(Grammar):
    """JSON Schema constraint: the generated text is a JSON value that is valid under the schema."""

    name = "json_schema"
    paper = "Geng et al. 2025, JSONSchemaBench: Generating Structured Outputs from Language Models, arXiv:2501.10868"

    class Config(Grammar.Config):
        definition: UnicodeJson = Field(default={}, examples=[{"type": "array", "items": {"type": "integer"}}])
        """JSON Schema. {} allows any JSON value. Unsupported keywords are an error before the first token."""
        whitespace: bool = False
        """Allow whitespace between the parts of the value. Default: false."""

    config: Config

    def lark(self) -> str:
        return f"start: %json {schema_text(self.config.definition, whitespace=self.config.whitespace)}"


def _lark_regex(pattern: str) -> str:
    return f"/{_import_llguidance().regex_to_lark(pattern, 'd')}/"  # with 'd', \d is [0-9]


def _alphabet_pattern(vocabulary: Sequence[bytes]) -> str | None:
    """Return a regex of all texts that the tokens can write, or None if there is a token for each byte of UTF-8."""
    if {bytes([byte]) for byte in (*range(0xC0), *range(0xC2, 0xF5))} <= set(vocabulary):
        return None
    texts = {text for data in vocabulary if (text := data.decode("utf-8", errors="ignore")).encode() == data}
    characters = [f"\\x{{{ord(text):x}}}" for text in sorted(texts) if len(text) == 1]
    return f"[{''.join(characters)}]*"


def _error_message(matcher: _Matcher) -> str:
    """Return llguidance's message without its quotes from the generated grammar."""
    lines = matcher.get_error().splitlines()
    reasons = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
    reason = reasons[0] if reasons else re.sub(r"^at \d+\(\d+\): ", "", lines[0])
    return f"{reason}. Simplify the grammar." if re.search(r"too (many|large|big|complex)", reason) else reason


@lru_cache(maxsize=8)
def _ll_tokenizer(tokenizer: Tokenizer) -> object:
    """Return llguidance's form of a tokenizer."""
    llguidance = _import_llguidance()
    return llguidance.LLTokenizer(llguidance.TokenizerWrapper(_TokenizerAdapter(tokenizer)))


class _TokenizerAdapter:
    """A tokenizer with the attributes that llguidance reads.

    A vocabulary without an end-of-text token gets one more id for it. Special tokens are marked by a byte that does not
    occur in UTF-8.
    """

    bos_token_id = None

    def __init__(self, tokenizer: Tokenizer):
        known = token_bytes(tokenizer)
        n_tokens = len(known) + (tokenizer.eot is None)
        self.eos_token_id = len(known) if tokenizer.eot is None else tokenizer.eot
        self.special_token_ids = [token for token in range(n_tokens) if token >= len(known) or not known[token]]
        self.tokens = list(known) + [b""] * (n_tokens - len(known))
        for token in self.special_token_ids:
            self.tokens[token] = b"\xff[%d]" % token

    def __call__(self, text: bytes) -> list[int]:
        return []  # llguidance encodes text only to force tokens, which is off


def _import_llguidance() -> ModuleType:
    try:
        import llguidance
    except ImportError:
        raise InputError("regex and json_schema need the package llguidance: pip install 'gptzoo[grammar]'") from None
    module: ModuleType = llguidance
    return module
