"""A reason to doubt a comparison, as plain data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

WarningKind = Literal[
    "single variant",  # nothing is compared
    "parameters",  # variants have different numbers of parameters
    "flops",  # variants use different numbers of FLOPs
    "tokens",  # variants are trained on different numbers of tokens
    "budget",  # the budget is too few steps
    "schedule",  # a learning-rate schedule does not suit the length of a run, or differs between variants
    "rungs",  # a selection ranks runs within their warmup
    "learning rate",  # the grid of a tuned field gives no answer
    "recommended",  # a component is compared without a setting that it recommends
    "context length",  # variants are evaluated in windows of different lengths
    "tokenizer",  # variants have different tokenizers
    "text",  # the training or held-out text is not what the comparison assumes
    "failed seeds",  # trials without a result
    "run",  # a warning of single trials
    "seeds added",  # seeds were added after results had been seen
    "plan",  # a warning that an older version stored without its kind
]


@dataclass(frozen=True)
class ComparisonWarning:
    """A reason to doubt a comparison. Its fields are keys of the JSON that commands print."""

    kind: WarningKind
    text: str  # complete sentences, clear when read alone
    variants: Sequence[str] = ()  # the variants that it concerns; () for all

    def __str__(self) -> str:
        return f"Warning: {self.text}"
