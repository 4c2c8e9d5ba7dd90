"""`SamplingFields`, the fields that requests for completions and for chats have in common."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

from pydantic import Field, GetJsonSchemaHandler, NonNegativeInt, field_validator, model_validator
from pydantic_core import CoreSchema, InitErrorDetails

from gptzoo.component import Config
from gptzoo.reference import Reference
from gptzoo.serving.request_options import ResponseFormat, StrategyOptions, StreamOptions
from gptzoo.strict_model import StrictModel, error_at

# Fields that stand for logits processors, so they exclude the field `processors`.
# Their values that change nothing. Some clients always send them.
_NEUTRAL_VALUES: dict[str, tuple[object, ...]] = {
    "temperature": (1.0,),
    "top_p": (1.0,),
    "top_k": (0, -1),
    "min_p": (0.0,),
    "repetition_penalty": (1.0,),
    "presence_penalty": (0.0,),
    "frequency_penalty": (0.0,),
    "logit_bias": ({},),
    "response_format": (),
}
_Penalty = Annotated[float, Field(ge=-2.0, le=2.0)]


class SamplingFields(StrictModel):
    """The fields of a request that describe how to generate. Those of OpenAI's API have their meaning there.

    The extensions are fields of vLLM's API (`top_k`, `min_p`, `repetition_penalty`, `min_tokens`, `ignore_eos`,
    `stop_token_ids` and `include_stop_str_in_output`), and gptzoo's own `processors`, `strategy` and `stop_tokens`.
    """

    defaults_of_empty: ClassVar[dict[str, dict[object, object]]] = {
        "min_tokens": {None: 0},
        "n": {None: 1},
        "stop": {"": None},
    }
    """What null or an empty value stands for, by field."""

    model: str
    """Name of the model, as /v1/models lists it."""
    min_tokens: NonNegativeInt = 0
    """Number of tokens before a text may end. They contain neither the end-of-text token nor a stop token, and a stop
    string does not end the text unless a later token completes it. Default: 0."""
    n: Annotated[int, Field(ge=1, le=128)] = 1
    """Number of samples per prompt to return."""
    temperature: Annotated[float, Field(ge=0.0, le=2.0)] | None = None
    """Sampling temperature. 0 is greedy decoding. Default: 1."""
    top_p: Annotated[float, Field(ge=0.0, le=1.0)] | None = None
    """Total probability that nucleus sampling keeps. 0 keeps only the most likely token. Default: 1, all tokens."""
    top_k: Annotated[int, Field(ge=-1)] | None = None
    """Number of most likely tokens to keep. Default: 0, which keeps all tokens, as -1 does."""
    min_p: Annotated[float, Field(ge=0.0, le=1.0)] | None = None
    """Minimum probability, as a fraction of the highest probability. Default: 0, which keeps all tokens."""
    repetition_penalty: Annotated[float, Field(ge=1e-4, le=1e4)] | None = None
    """Penalty factor for tokens of the prompt and of the text so far. Default: 1, which changes nothing."""
    presence_penalty: _Penalty | None = None
    """Penalty in nats for tokens that were generated before. Default: 0."""
    frequency_penalty: _Penalty | None = None
    """Penalty in nats for each time that a token was generated before. Default: 0."""
    logit_bias: dict[str, Annotated[float, Field(ge=-100.0, le=100.0)]] | None = None
    """Value added to the logit, in nats, by token id."""
    stop: Annotated[list[Annotated[str, Field(min_length=1)]], Field(max_length=16)] | None = None
    """One or up to 16 strings that end the text. They are not part of it."""
    stop_token_ids: list[NonNegativeInt] | None = None
    """Token ids that end the text, in addition to the end-of-text token. They are not part of it."""
    stop_tokens: list[NonNegativeInt] | None = None
    """gptzoo's name of `stop_token_ids`. The tokens of both lists end the text."""
    include_stop_str_in_output: bool | None = False
    """Return the stop string or stop token that ends the text as part of it. Default: false."""
    ignore_eos: bool | None = False
    """Continue after the end-of-text token. It still ends the text if it is in `stop_token_ids`. Default: false."""
    seed: int | None = None
    """Random seed. Default: a new one for each request."""
    stream: bool | None = False
    """Send the text in pieces, as server-sent events."""
    stream_options: StreamOptions | None = None
    """Options of a streamed response."""
    user: str | None = None
    """Accepted for compatibility. It has no effect."""
    response_format: ResponseFormat | None = None
    """Format that the text must have."""
    processors: list[Annotated[Config, Reference("logits_processor")]] | None = None
    """All logits processors, in order. They replace those that the fields above stand for."""
    strategy: StrategyOptions | None = None
    """Decoding strategy. Default: sampling."""

    @model_validator(mode="before")
    @classmethod
    def _replace_empty(cls, data: object) -> object:
        """Replace null and empty values that clients send for a field that is not used."""
        if not isinstance(data, dict):
            return data
        replaced = {
            name: default
            for name, defaults in cls.defaults_of_empty.items()
            for empty, default in defaults.items()
            if name in data and type(data[name]) is type(empty) and data[name] == empty
        }
        return {**data, **replaced}

    @field_validator("stop", mode="before")
    @classmethod
    def _one_stop(cls, value: object) -> object:
        return [value] if isinstance(value, str) else value

    @classmethod
    def __get_pydantic_json_schema__(cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        """Add the values that the validators above accept to the JSON Schema."""
        reference = handler(core_schema)
        properties = handler.resolve_ref_schema(reference)["properties"]
        for name, defaults in cls.defaults_of_empty.items():
            _add_alternatives(properties[name], *({"const": empty} for empty in defaults))
        _add_alternatives(properties["stop"], {"type": "string"})
        return reference

    def find_conflicts(self, max_tokens: int | None) -> list[InitErrorDetails]:
        """Return the errors of fields that exclude each other."""
        errors = []
        if max_tokens is not None and self.min_tokens > max_tokens:
            message = f"must be at most max_tokens, which is {max_tokens}"
            errors.append(error_at(message, "min_tokens", value=self.min_tokens))
        if self.stream_options is not None and not self.stream:
            errors.append(error_at("requires stream", "stream_options"))
        if self.processors is not None:
            for name in _NEUTRAL_VALUES:
                if self._given(name) is not None:
                    errors.append(error_at("cannot be combined with processors", name))
        return errors

    def processor_configs(self) -> list[Any]:
        """Return the configs of the logits processors that the request asks for, in order."""
        if self.processors is not None:
            return list(self.processors)
        configs = [] if self.response_format is None else self.response_format.processor_configs()
        if (repetition_penalty := self._given("repetition_penalty")) is not None:
            configs.append({"type": "repetition_penalty", "value": float(repetition_penalty)})
        if self.presence_penalty:
            configs.append({"type": "presence_penalty", "value": self.presence_penalty})
        if self.frequency_penalty:
            configs.append({"type": "frequency_penalty", "value": self.frequency_penalty})
        if self.logit_bias:
            configs.append({"type": "logit_bias", "biases": self.logit_bias})
        if (temperature := self._given("temperature")) is not None:
            configs.append({"type": "temperature", "value": float(temperature)})
        if (top_k := self._given("top_k")) is not None:
            configs.append({"type": "top_k", "k": top_k})
        if self.top_p == 0:
            configs.append({"type": "top_k", "k": 1})
        elif (top_p := self._given("top_p")) is not None:
            configs.append({"type": "top_p", "p": float(top_p)})
        if (min_p := self._given("min_p")) is not None:
            configs.append({"type": "min_p", "p": float(min_p)})
        return configs

    def field_of_processor(self, index: int) -> str:
        """Return the field that a processor of `processor_configs` comes from."""
        if self.processors is not None:
            return "processors"
        name = self.processor_configs()[index]["type"]
        return {"json_schema": "response_format"}.get(name, str(name))

    def _given(self, name: str) -> Any:  # noqa: ANN401  fields have different types
        """Return the value of a field that stands for a logits processor, or None if it changes nothing."""
        value = getattr(self, name)
        return None if value in _NEUTRAL_VALUES[name] else value


def _add_alternatives(schema: dict[str, Any], *alternatives: dict[str, Any]) -> None:
    """Change the JSON Schema of a field so that it accepts the alternatives as well."""
    annotations: dict[str, Any] = {name: schema.pop(name) for name in ("description", "default") if name in schema}
    known = schema.pop("anyOf") if "anyOf" in schema else [dict(schema)]
    schema.clear()
    schema["anyOf"] = [*known, *(each for each in alternatives if each not in known)]
    schema.update(annotations)
