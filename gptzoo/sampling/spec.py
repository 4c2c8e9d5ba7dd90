"""How to sample, described."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, NonNegativeInt, Strict

from gptzoo.component import SpecModel
from gptzoo.reference import Reference


class SamplingSpec(SpecModel):
    """How tokens are chosen. The same seed gives each row the same tokens, whatever rows are sampled beside it."""

    max_new_tokens: NonNegativeInt = 200
    processors: Annotated[tuple[Annotated[Any, Reference("logits_processor")], ...], Strict(False)] = ()
    """Applied to the logits in order; none leaves the model's own distribution."""
    stop_tokens: Annotated[tuple[NonNegativeInt, ...], Strict(False)] = ()
    """A row ends before the first of these."""
    stop_texts: Annotated[tuple[Annotated[str, Field(min_length=1)], ...], Strict(False)] = ()
    """The text of a row ends before the first of these, however it is cut into tokens; they need a tokenizer."""
    seed: NonNegativeInt = 1
