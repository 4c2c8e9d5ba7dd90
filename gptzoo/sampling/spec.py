"""`SamplingSpec`, the sampling parameters of a request."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import Field, NonNegativeInt, Strict, model_validator

from gptzoo.reference import Reference
from gptzoo.spec.files import load_spec
from gptzoo.strict_model import StrictModel, Unicode, option_error


class SamplingSpec(StrictModel):
    """Sampling parameters. The seed determines the tokens of each sample, independent of the rest of the batch."""

    max_new_tokens: NonNegativeInt = 200
    """Maximum number of tokens to generate after the prompt."""
    min_new_tokens: NonNegativeInt = 0
    """Number of tokens before the text may end. They contain neither a stop token nor the end-of-text token, and a stop
    string does not end the text unless a later token completes it. Default: 0."""
    processors: Annotated[tuple[Annotated[Any, Reference("logits_processor")], ...], Strict(False)] = ()
    """Logits processors, applied in this order. Default: none, which samples from the model's own distribution."""
    stop_tokens: Annotated[tuple[NonNegativeInt, ...], Strict(False)] = ()
    """Token ids that end the text. The stop token itself is not part of the text."""
    ignore_eos: bool = False
    """Do not add the end-of-text token to `stop_tokens`. Default: `gptzoo sample` and `gptzoo serve` add it. It still
    ends the text if `stop_tokens` contains it."""
    stop_texts: Annotated[tuple[Annotated[Unicode, Field(min_length=1)], ...], Strict(False)] = ()
    """Strings that end the text. The stop string itself is not part of the text. They require a tokenizer."""
    include_stop_text: bool = False
    """Add the stop string or the stop token that ends the text to the text. Default: false."""
    seed: NonNegativeInt = 1
    """Random seed. Each sample of a prompt has its own random stream, derived from the seed and its number."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.min_new_tokens > self.max_new_tokens:
            raise option_error(
                f"min_new_tokens {self.min_new_tokens} is more than max_new_tokens, which is {self.max_new_tokens}. "
                "Lower the first or raise the second."
            )
        return self


SamplingSource = SamplingSpec | Mapping[str, Any] | str | Path
"""A sampling spec, its JSON as a dict, or the path of its file."""


def read_sampling(source: SamplingSource | None) -> SamplingSpec:
    """Return a sampling spec from any of its forms; the defaults for None. Raises SpecError."""
    if isinstance(source, SamplingSpec):
        return source
    return SamplingSpec() if source is None else load_spec(SamplingSpec, source)
