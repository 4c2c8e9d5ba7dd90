"""`LogitsProcessor`, the base class of the kind `logits_processor`, and functions that build and apply processors.

The built-in processors are in `truncation.py`, `penalties.py`, `constraints.py` and `grammar.py`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import ClassVar

from torch import Tensor

from gptzoo.component import Component, Config
from gptzoo.data.tokenizers.tokenizer import Tokenizer
from gptzoo.errors import InputError, ProcessorError
from gptzoo.sampling.sequence import TokenSequence
from gptzoo.utils.bad_logits import are_bad

NEG_INF = float("-inf")  # the logit of an excluded token
_ADVICE = "This is an error in the processor. Leave it out, or report it to the authors of its plugin."


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

    def is_complete(self, sequence: TokenSequence) -> bool:
        """Return False if a text that ends after `sequence` lacks something that the processor guarantees."""
        return True

    def check_vocab_size(self, vocab_size: int) -> None:
        """Raise InputError if an option names a token id that a model with `vocab_size` ids does not have."""

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
    """Apply the processors in order to the next-token logits (B, V) of the sequences.

    Raises InputError if a processor fails or leaves no possible token in a row.
    """
    for processor in processors:
        logits = _apply(processor, logits, sequences)
        if bool(are_bad(logits).any()):
            place = _place(processor, sequences)
            raise ProcessorError(f"{place}: it returned NaN or +inf, or it excluded every token. {_ADVICE}")
    return logits


def apply_processors_unchecked(
    processors: Iterable[LogitsProcessor], logits: Tensor, sequences: Sequence[TokenSequence]
) -> tuple[Tensor, Tensor]:
    """Apply the processors as `apply_processors` does, but without a check of the numbers that they return.

    So the host does not wait for a GPU. Also returns a bool mask (B,) of the rows for which `apply_processors` raises.
    """
    is_bad = are_bad(logits)
    for processor in processors:
        logits = _apply(processor, logits, sequences)
        is_bad = is_bad | are_bad(logits)
    return logits, is_bad


def _apply(processor: LogitsProcessor, logits: Tensor, sequences: Sequence[TokenSequence]) -> Tensor:
    try:
        processed = processor(logits, sequences)
    except InputError:
        raise
    except Exception as error:  # a plugin may raise anything
        place = _place(processor, sequences)
        raise ProcessorError(f"{place}: {type(error).__name__}: {error}. {_ADVICE}") from error
    if not isinstance(processed, Tensor) or processed.shape != logits.shape:
        place = _place(processor, sequences)
        raise ProcessorError(f"{place}: it did not return a tensor with the shape of the logits. {_ADVICE}")
    return processed


def _place(processor: LogitsProcessor, sequences: Sequence[TokenSequence]) -> str:
    return f"logits_processor {processor.name!r} at new token {sequences[0].n_new + 1}"


def is_finished(processor: LogitsProcessor, sequence: TokenSequence) -> bool:
    """Return True if no token may follow. Raises InputError if the processor fails."""
    try:
        return processor.finished(sequence)
    except InputError:
        raise
    except Exception as error:  # a plugin may raise anything
        place = f"logits_processor {processor.name!r} after new token {sequence.n_new}"
        raise ProcessorError(f"{place}: {type(error).__name__}: {error}. {_ADVICE}") from error
