"""The objects inside the body of a completion request: stream options, decoding strategies and response formats."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from gptzoo.strict_model import StrictModel, option_error


class StreamOptions(StrictModel):
    """Options of a streamed response."""

    include_usage: bool | None = False
    """Send a last chunk with the number of tokens of all texts. Default: false."""
    continuous_usage_stats: bool | None = False
    """Send the number of tokens of a text so far with each of its chunks. It has no effect without `include_usage`.
    Default: false."""
    include_obfuscation: bool | None = None
    """Accepted for compatibility. It has no effect."""


class BeamOptions(StrictModel):
    """Beam search. The samples are the best beams, the best first."""

    type: Literal["beams"]
    n_beams: Annotated[int, Field(ge=1, le=64)] = 4
    """Number of beams."""
    length_penalty: Annotated[float, Field(ge=-10.0, le=10.0)] = 1.0
    """Exponent of the length by which scores are divided. Values above 1 favour longer texts."""


class ContrastiveOptions(StrictModel):
    """Contrastive search: likely tokens that repeat the context least."""

    type: Literal["contrastive"]
    alpha: Annotated[float, Field(ge=0.0, le=1.0)] = 0.6
    """Weight of the penalty for repetition. 0 is greedy decoding."""
    n_candidates: Annotated[int, Field(ge=1, le=64)] = 4
    """Number of tokens to choose from at each step."""


class SpeculativeOptions(StrictModel):
    """Speculative decoding with the server's draft model. The distribution of texts does not change."""

    type: Literal["speculative"]
    n_ahead: Annotated[int, Field(ge=1, le=32)] = 4
    """Maximum number of draft tokens per step."""


class ResponseFormat(StrictModel):
    """A format that the text must have, as in OpenAI's chat API."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: dict[str, Any] | None = None
    """Object whose "schema" is a JSON Schema. Its other fields, such as "name", have no effect."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        is_given = self.json_schema is not None
        if is_given != (self.type == "json_schema"):
            raise option_error(f"type {self.type!r} {'does not take' if is_given else 'needs'} a json_schema")
        if is_given and not isinstance((self.json_schema or {}).get("schema"), dict):
            raise option_error('json_schema must be an object with a "schema" that is an object')
        return self

    def processor_configs(self) -> list[dict[str, Any]]:
        """Return the configs of the logits processors that enforce the format."""
        if self.type == "text":
            return []
        definition = {"type": "object"} if self.json_schema is None else self.json_schema["schema"]
        return [{"type": "json_schema", "definition": definition}]


StrategyOptions = Annotated[BeamOptions | ContrastiveOptions | SpeculativeOptions, Field(discriminator="type")]
