"""`SamplingSpec`, the sampling parameters of a request."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, NonNegativeInt, Strict

from gptzoo.reference import Reference
from gptzoo.strict_model import StrictModel, Unicode


class SamplingSpec(StrictModel):
    """Sampling parameters. The seed determines the tokens of each sample, independent of the rest of the batch."""

    max_new_tokens: NonNegativeInt = 200
    """Maximum number of tokens to generate after the prompt."""
    processors: Annotated[tuple[Annotated[Any, Reference("logits_processor")], ...], Strict(False)] = ()
    """Logits processors, applied in this order. Default: none, which samples from the model's own distribution."""
    stop_tokens: Annotated[tuple[NonNegativeInt, ...], Strict(False)] = ()
    """Token ids that end the text. The stop token itself is not part of the text."""
    stop_texts: Annotated[tuple[Annotated[Unicode, Field(min_length=1)], ...], Strict(False)] = ()
    """Strings that end the text. The stop string itself is not part of the text. They require a tokenizer."""
    seed: NonNegativeInt = 1
    """Random seed. Each sample of a prompt has its own random stream, derived from the seed and its number."""
