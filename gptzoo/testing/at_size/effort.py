"""The number of cases beyond toy sizes, as counts and not as times, so that verdicts are deterministic."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Effort:
    """The number of cases of each property and their largest size."""

    n_planned: int  # cases of the plan, which deals edge values of every size and option
    n_random: int  # cases that hypothesis draws
    max_length: int  # tokens per row
    max_tokens: int  # tokens per batch


TOY = Effort(n_planned=0, n_random=0, max_length=0, max_tokens=0)
SAMPLE = Effort(n_planned=4, n_random=0, max_length=150, max_tokens=600)
QUICK = Effort(n_planned=20, n_random=4, max_length=260, max_tokens=1200)
SLOW = Effort(n_planned=48, n_random=60, max_length=520, max_tokens=2600)
