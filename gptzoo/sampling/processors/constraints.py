"""Processors that forbid tokens and texts, or ask for them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, ClassVar

from pydantic import Field, NonNegativeInt, Strict, model_validator
from torch import Tensor

from gptzoo.component import Config, refusal
from gptzoo.data.tokenizers.tokenizer import Tokenizer
from gptzoo.data.utf8 import utf8
from gptzoo.errors import InputError
from gptzoo.sampling.processors.processor import NEVER, LogitsProcessor
from gptzoo.sampling.processors.vocabulary import check_ids, pieces
from gptzoo.sampling.sequence import TokenSequence

Ids = Annotated[tuple[NonNegativeInt, ...], Strict(False)]
Text = Annotated[str, Field(min_length=1)]


class Constraint(LogitsProcessor):
    """Base of processors that promise something of the text and raise InputError rather than break it."""

    constrains: ClassVar[bool] = True

    def checked(self, left: Tensor) -> Tensor:
        """The logits (B, V) that are left. Raises InputError for a row that has none."""
        empty = left.amax(dim=-1) == NEVER
        if empty.any():
            raise InputError(
                f"logits_processor {self.config.type!r}: of the tokens that are left by what comes before it, it allows"
                f" none in row {int(empty.nonzero()[0])}; what they ask for cannot be had together"
            )
        return left


class BannedTokens(Constraint):
    """Excludes tokens by id, and every token that would complete a text, however the text is cut into tokens.

    A text that the prompt ends in the middle of is not completed either.
    """

    name = "banned_tokens"
    paper = "Gehman et al. 2020, RealToxicityPrompts (word filter), arXiv:2009.11462"

    class Config(Constraint.Config):
        ids: Ids = ()
        """Of tokens that are never written."""
        texts: Annotated[tuple[Text, ...], Strict(False)] = Field((), examples=[["dragon"]])
        """That are never written."""

        @model_validator(mode="after")
        def _check(self) -> Any:
            if not self.ids and not self.texts:
                raise refusal("say what is banned: `ids`, `texts` or both")
            return self

    def __init__(self, config: Config, tokenizer: Tokenizer | None = None):
        super().__init__(config, tokenizer)
        self.always = set(self.config.ids)
        self.completing: dict[bytes, list[int]] = {}  # where the row ends in these bytes, these tokens are banned
        self.pieces: tuple[bytes, ...] = ()
        if self.config.texts:
            self.pieces = pieces(self.require_tokenizer())
            for text in map(utf8, self.config.texts):
                self.always.update(token for token, piece in enumerate(self.pieces) if text in piece)
                for cut in range(1, len(text)):
                    tokens = [token for token, piece in enumerate(self.pieces) if piece.startswith(text[cut:])]
                    self.completing.setdefault(text[:cut], []).extend(tokens)
        self.longest = max(map(len, self.completing), default=0)

    def __call__(self, logits: Tensor, rows: Sequence[TokenSequence]) -> Tensor:
        check_ids(self.always, logits.shape[-1], self.name)
        left = logits.clone()
        left[:, list(self.always)] = NEVER
        for index, row in enumerate(rows):
            left[index, self._completing(row)] = NEVER
        return self.checked(left)

    def _completing(self, row: TokenSequence) -> list[int]:
        tail = b""
        for token in reversed(row.tokens):
            if len(tail) >= self.longest:
                break
            tail = self.pieces[token] + tail
        return [token for end, tokens in self.completing.items() if tail.endswith(end) for token in tokens]


class ForcedTokens(Constraint):
    """Begins what is written with given tokens, or with a text."""

    name = "forced_tokens"
    paper = "Wuebker et al. 2016, Models and Inference for Prefix-Constrained Machine Translation, ACL P16-1007"

    class Config(Constraint.Config):
        ids: Ids = ()
        """Of the first new tokens, in order."""
        text: str = Field("", examples=["Once upon a time"])
        """That the new tokens begin with."""

        @model_validator(mode="after")
        def _check(self) -> Any:
            if bool(self.ids) == bool(self.text):
                raise refusal("say what is forced: either `ids` or `text`")
            return self

    def __init__(self, config: Config, tokenizer: Tokenizer | None = None):
        super().__init__(config, tokenizer)
        self.tokens = self.config.ids or tuple(self.require_tokenizer().encode(self.config.text))

    def __call__(self, logits: Tensor, rows: Sequence[TokenSequence]) -> Tensor:
        check_ids(self.tokens, logits.shape[-1], self.name)
        written = [len(row.tokens) - row.prompt_length for row in rows]
        if min(written) >= len(self.tokens):
            return logits
        left = logits.clone()
        for index, n_written in enumerate(written):
            if n_written < len(self.tokens):
                left[index] = NEVER
                left[index, self.tokens[n_written]] = logits[index, self.tokens[n_written]]
        return self.checked(left)
