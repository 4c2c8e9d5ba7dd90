"""`LogitsProcessor`, the base class of the kind `logits_processor`, and functions that build and apply processors.

The built-in processors are in `truncation.py`, `penalties.py`, `constraints.py` and `grammar.py`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import ClassVar

from torch import Tensor

from gptzoo.component import Component, Config
from gptzoo.data.tokenizers.tokenizer import Tokenizer
from gptzoo.errors import InputError
from gptzoo.sampling.sequence import TokenSequence

NEG_INF = float("-inf")  # the logit of an excluded token


class LogitsProcessor(Component):
    """Base class of logits processors: functions from logits to logits whose result depends only on their arguments.

    At least one token stays possible in each row. A processor that would exclude all of them returns the row unchanged,
    or raises InputError if `constrains` is set.
    """

    kind = "logits_processor"

    constrains: ClassVar[bool] = False
    """True if the processor raises InputError instead of breaking a guarantee. Such processors must come first."""

    config: Config

    def __init__(self, config: Config, tokenizer: Tokenizer | None = None):
        self.config = config
        self.tokenizer = tokenizer

    def __call__(self, logits: Tensor, sequences: Sequence[TokenSequence]) -> Tensor:
        """Return processed logits (B, V) for logits (B, V) float32 of the next token of each sequence.

        Implementations must not modify their arguments. Some sequences of the batch may already be finished.
        """
        raise TypeError(f"{type(self).__name__} does not implement __call__")

    def finished(self, sequence: TokenSequence) -> bool:
        """Return True if no token may follow `sequence`. Called before the first new token and after each one."""
        return False

    def require_tokenizer(self) -> Tokenizer:
        """Return the model's tokenizer. Raises InputError if there is none."""
        if self.tokenizer is None:
            raise InputError(
                f"logits_processor {self.config.type!r} works on text and needs the model's tokenizer. Use a model "
                "folder that has a tokenizer.json, or pass `tokenizer` to generate()."
            )
        return self.tokenizer


def build_processors(configs: Iterable[Config], tokenizer: Tokenizer | None = None) -> list[LogitsProcessor]:
    """Build the logits processors of `configs`, in the same order.

    Raises InputError if one needs a tokenizer and there is none, or if a constraint comes after another processor.
    """
    processors: list[LogitsProcessor] = []
    for config in configs:
        processor = config.build(tokenizer)
        preceding = next((p.config.type for p in processors if not p.constrains), None)
        if processor.constrains and preceding is not None:
            raise InputError(
                f"logits_processor {config.type!r} comes after {preceding!r}, which may exclude every token that it "
                f"allows. Put {config.type!r} first."
            )
        processors.append(processor)
    return processors


def apply_processors(
    processors: Iterable[LogitsProcessor], logits: Tensor, sequences: Sequence[TokenSequence]
) -> Tensor:
    """Apply the processors in order to the next-token logits (B, V) of the sequences."""
    for processor in processors:
        logits = processor(logits, sequences)
    return logits
