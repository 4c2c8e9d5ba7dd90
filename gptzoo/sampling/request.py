"""What the engine is asked for, what it tells, and a text on its way."""

from __future__ import annotations

import itertools
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor

from gptzoo.errors import InputError
from gptzoo.sampling.engine.stopping import End, StoppingCriteria
from gptzoo.sampling.engine.token_choice import Choice
from gptzoo.sampling.processors.processor import processed
from gptzoo.sampling.sequence import TokenSequence
from gptzoo.sampling.spec import SamplingSpec


@dataclass(frozen=True)
class Request:
    """A prompt and how to go on from it, `n_samples` times.

    What is written depends on the tokens, the spec, `n_ahead` and the number of the sample alone, whatever runs beside
    it.
    """

    tokens: Sequence[int]
    spec: SamplingSpec = field(default_factory=SamplingSpec)
    id: Hashable = None
    """Left out, the engine gives it one."""
    n_samples: int = 1
    first_sample: int = 0
    """The number of the first sample, which with the seed decides what it draws."""
    n_likeliest: int = 0
    """So many of the tokens that the model finds likeliest are told with each that is chosen."""
    n_ahead: int = 0
    """So many tokens at a time are proposed by the engine's draft model; 0 does without it."""


class Event(NamedTuple):
    """What happened to one sample of a request: a token, its end, or both."""

    request: Any  # its id
    sample: int  # 0 to n_samples - 1
    choice: Choice | None  # None: it ended without one
    end: End | None = None
    error: InputError | None = None  # of the request's own, by which it ended


@dataclass(eq=False)
class Text:
    """One sample that waits or is being written."""

    request: Request
    id: Hashable
    sample: int
    row: TokenSequence
    endings: StoppingCriteria
    generator: torch.Generator
    n_drafted: int = 0  # of its tokens, the prompt's among them, that the draft model has read
    ended: bool = False

    @property
    def prompt(self) -> tuple[int, ...]:
        return tuple(self.request.tokens)

    @property
    def n_left(self) -> int:
        """How many tokens more it may have."""
        return self.request.spec.max_new_tokens - (len(self.row.tokens) - self.row.prompt_length)


def process(texts: Sequence[Text], logits: Tensor) -> tuple[Tensor, dict[int, InputError]]:
    """Logits (B, V) as the processors of each text leave them, those of one spec together; and what failed."""
    groups: dict[int, list[int]] = {}
    for index, text in enumerate(texts):
        groups.setdefault(id(text.endings), []).append(index)
    errors: dict[int, InputError] = {}
    parts = []
    for indices in groups.values():
        part = logits if len(groups) == 1 else logits[indices]
        try:
            part = processed(texts[indices[0]].endings.processors, part, [texts[index].row for index in indices])
        except InputError as error:
            errors |= dict.fromkeys(indices, error)
        parts.append(part)
    if len(groups) == 1:
        return parts[0], errors
    back = torch.tensor(list(itertools.chain(*groups.values())), device=logits.device).argsort()
    return torch.cat(parts)[back], errors
