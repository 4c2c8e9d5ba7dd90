"""Logits processors that ban or force tokens and texts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, ClassVar, Self

from pydantic import Field, NonNegativeInt, Strict, model_validator
from torch import Tensor

from gptzoo.data.tokenizers.tokenizer import Tokenizer
from gptzoo.data.utf8 import encode_utf8
from gptzoo.errors import InputError
from gptzoo.sampling.processors.processor import NEG_INF, LogitsProcessor
from gptzoo.sampling.processors.vocabulary import check_token_ids, token_bytes
from gptzoo.sampling.sequence import TokenSequence
from gptzoo.strict_model import Unicode, option_error

TokenIds = Annotated[tuple[NonNegativeInt, ...], Strict(False)]
Text = Annotated[Unicode, Field(min_length=1)]


class Constraint(LogitsProcessor):
    """Base class of processors that guarantee something about the text and raise InputError if they cannot."""

    constrains: ClassVar[bool] = True

    def require_possible(self, logits: Tensor) -> Tensor:
        """Return the logits (B, V) unchanged. Raises InputError if a row has no possible token."""
        impossible = logits.amax(dim=-1) == NEG_INF
        if impossible.any():
            raise InputError(
                f"logits_processor {self.config.type!r}: no token is possible in row {int(impossible.nonzero()[0])}. "
                "It excludes every token that the processors before it allow, so the constraints contradict each other."
            )
        return logits


class BannedTokens(Constraint):
    """Ban on token ids and texts. A banned text is excluded however it is split into tokens.

    A banned text that starts in the prompt is not completed either.
    """

    name = "banned_tokens"
    paper = "Gehman et al. 2020, RealToxicityPrompts (word filter), arXiv:2009.11462"

    class Config(Constraint.Config):
        ids: TokenIds = ()
        """Token ids that are never generated."""
        texts: Annotated[tuple[Text, ...], Strict(False)] = Field(default=(), examples=[["dragon"]])
        """Strings that never appear in the text."""

        @model_validator(mode="after")
        def _check(self) -> Self:
            if not self.ids and not self.texts:
                raise option_error("nothing is banned. Give `ids`, `texts` or both.")
            return self

    config: Config

    def __init__(self, config: Config, tokenizer: Tokenizer | None = None):
        super().__init__(config, tokenizer)
        self.always_banned = set(config.ids)
        self.banned_after: dict[bytes, list[int]] = {}  # the banned tokens after a text that ends with the key
        self.token_bytes: tuple[bytes, ...] = ()
        if config.texts:
            self.token_bytes = token_bytes(self.require_tokenizer())
            for text in map(encode_utf8, config.texts):
                self.always_banned.update(token for token, data in enumerate(self.token_bytes) if text in data)
                for split in range(1, len(text)):
                    tokens = [token for token, data in enumerate(self.token_bytes) if data.startswith(text[split:])]
                    self.banned_after.setdefault(text[:split], []).extend(tokens)
        self.max_tail_length = max(map(len, self.banned_after), default=0)

    def check_vocab_size(self, vocab_size: int) -> None:
        check_token_ids(self.config.ids, vocab_size, self.name)

    def __call__(self, logits: Tensor, sequences: Sequence[TokenSequence]) -> Tensor:
        check_token_ids(self.always_banned, logits.shape[-1], self.name)
        masked = logits.clone()
        masked[:, list(self.always_banned)] = NEG_INF
        for row, sequence in enumerate(sequences):
            masked[row, self._completing_tokens(sequence)] = NEG_INF
        return self.require_possible(masked)

    def _completing_tokens(self, sequence: TokenSequence) -> list[int]:
        """Return the tokens that would complete a banned text."""
        tail = b""
        for token in reversed(sequence.tokens):
            if len(tail) >= self.max_tail_length:
                break
            tail = (self.token_bytes[token] if token < len(self.token_bytes) else b"") + tail  # or a spare id
        return [token for suffix, tokens in self.banned_after.items() if tail.endswith(suffix) for token in tokens]


class ForcedTokens(Constraint):
    """Forced beginning of the generated text: given tokens or a given text."""

    name = "forced_tokens"
    paper = "Wuebker et al. 2016, Models and Inference for Prefix-Constrained Machine Translation, ACL P16-1007"

    class Config(Constraint.Config):
        ids: TokenIds = ()
        """Token ids of the first new tokens, in order."""
        text: Unicode = Field(default="", examples=["Once upon a time"])
        """String that the generated text starts with."""

        @model_validator(mode="after")
        def _check(self) -> Self:
            if bool(self.ids) == bool(self.text):
                raise option_error("give either `ids` or `text`")
            return self

    config: Config

    def __init__(self, config: Config, tokenizer: Tokenizer | None = None):
        super().__init__(config, tokenizer)
        self.tokens = config.ids or tuple(self.require_tokenizer().encode_continuation(config.text))

    def check_vocab_size(self, vocab_size: int) -> None:
        check_token_ids(self.tokens, vocab_size, self.name)

    def is_complete(self, sequence: TokenSequence) -> bool:
        return sequence.n_new >= len(self.tokens)

    def __call__(self, logits: Tensor, sequences: Sequence[TokenSequence]) -> Tensor:
        self.check_vocab_size(logits.shape[-1])
        if all(sequence.n_new >= len(self.tokens) for sequence in sequences):
            return logits
        masked = logits.clone()
        for row, sequence in enumerate(sequences):
            if sequence.n_new < len(self.tokens):
                forced = self.tokens[sequence.n_new]
                masked[row] = NEG_INF
                masked[row, forced] = logits[row, forced]
        return self.require_possible(masked)
