"""How to sample, described."""

from __future__ import annotations

from typing import Annotated

from pydantic import NonNegativeInt, Strict

from gptzoo.component import Config, SpecModel
from gptzoo.reference import Reference


class SamplingSpec(SpecModel):
    """How tokens are chosen. The same seed gives each row the same tokens, whatever rows are sampled beside it."""

    max_new_tokens: NonNegativeInt = 200
    processors: Annotated[tuple[Annotated[Config, Reference("logits_processor")], ...], Strict(False)] = ()
    """Applied to the logits in order; none leaves the model's own distribution."""
    stop_tokens: Annotated[tuple[NonNegativeInt, ...], Strict(False)] = ()
    """A row ends before the first of these."""
    seed: NonNegativeInt = 1
