"""`StrictModel`, the base class of everything that is read from JSON, and the errors of its validation."""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Iterable, Mapping
from typing import Annotated, Any, Self, TypeAlias

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    GetCoreSchemaHandler,
    ModelWrapValidatorHandler,
    PydanticSchemaGenerationError,
    TypeAdapter,
    ValidationError,
    model_validator,
)
from pydantic_core import CoreSchema, ErrorDetails, InitErrorDetails, PydanticCustomError

from gptzoo.field_words import FIELD_WORDS
from gptzoo.json_forms import read_json_forms


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return a suggestion such as `"; did you mean 'dropout'?"`, or "" if no known name is similar."""
    match = difflib.get_close_matches(name, list(known), n=1)
    return f"; did you mean {match[0]!r}?" if match else ""


def did_you_mean_field(key: str, fields: Collection[str]) -> str:
    """Return a suggestion such as `"; did you mean 'dropout'?"`, also for the word of another project, or ""."""
    same = FIELD_WORDS.get(key.lower(), "").rpartition(".")[2]
    return f"; did you mean {same!r}?" if same in fields else did_you_mean(key, fields)


def option_error(reason: str) -> PydanticCustomError:
    """Return an error for a validator of options to raise, whose message is exactly `reason`."""
    return PydanticCustomError("gptzoo", reason)


def error_at(reason: str, *location: str | int, value: object = None) -> InitErrorDetails:
    """Return one entry for a pydantic ValidationError with the message `reason` at `location`."""
    return InitErrorDetails(type=option_error(reason), loc=location, input=value)


def lone_surrogate_path(value: object) -> tuple[str | int, ...] | None:
    """Return the path of the first string of a JSON value that UTF-8 cannot represent, or None. Keys count as well."""
    if isinstance(value, str):
        return () if any("\ud800" <= character <= "\udfff" for character in value) else None
    entries: Iterable[tuple[Any, object]] = ()
    if isinstance(value, dict):
        entries = value.items()
        if bad_key := next((key for key in value if lone_surrogate_path(key) is not None), None):
            return (bad_key,)
    elif isinstance(value, list | tuple):
        entries = enumerate(value)
    for key, entry in entries:
        if (path := lone_surrogate_path(entry)) is not None:
            return (key, *path)
    return None


def escape_surrogates(text: str) -> str:
    """Return a text that UTF-8 can represent, with escapes such as \\ud800 in place of lone surrogates."""
    return text.encode("utf-8", errors="backslashreplace").decode("utf-8")


LONE_SURROGATE = "has a lone surrogate, which UTF-8 cannot represent. Remove it."


def _refuse_lone_surrogates(value: object) -> object:
    try:
        path = lone_surrogate_path(value)
    except RecursionError:
        raise option_error("is nested too deeply") from None
    if path is not None:
        place = f"the text at {escape_surrogates('.'.join(map(str, path)))!r} " if path else ""
        raise option_error(place + LONE_SURROGATE)
    return value


Unicode: TypeAlias = Annotated[str, BeforeValidator(_refuse_lone_surrogates)]
"""A string that UTF-8 can represent."""
UnicodeJson: TypeAlias = Annotated[dict[str, Any], BeforeValidator(_refuse_lone_surrogates)]
"""A JSON object whose strings UTF-8 can represent."""


_JSON_TYPES = {
    "dataclass_type": "an object",
    "deque_type": "a list",
    "dict_type": "an object",
    "frozen_set_type": "a list",
    "list_type": "a list",
    "model_type": "an object",
    "path_type": "a path, as a string",
    "set_type": "a list",
    "tuple_type": "a list",
}
"""JSON's name for the expected type, by the pydantic error type whose message uses Python's name."""


def reason_of(error: ErrorDetails) -> str:
    """Return the message of one entry of `ValidationError.errors()`, in JSON's terms."""
    if error["type"] == "missing":
        return "is required"
    if error["type"] in _JSON_TYPES:
        return f"should be {_JSON_TYPES[error['type']]}"
    if error["type"] in ("too_short", "too_long"):  # "List should have at least 1 item after validation, not 0"
        return re.sub(r"^\w+ (should have .*) after validation, not (.*)$", r"\1, has \2", error["msg"])
    return re.sub(r"^(Input|String) should ", "should ", error["msg"])


def errors_below(error: ValidationError, *prefix: str | int) -> list[InitErrorDetails]:
    """Return the entries of a ValidationError with `prefix` before each location, to be raised again."""
    return [error_at(reason_of(e), *prefix, *e["loc"], value=e["input"]) for e in error.errors(include_url=False)]


class StrictModel(BaseModel):
    """Base class of everything read from JSON: frozen, strict about types, with suggestions for unknown keys.

    A string below a field is its description. It is read on demand (`gptzoo.spec.schema.field_descriptions`), because
    pydantic's `use_attribute_docstrings` searches for the source of every class and makes imports seconds slower.
    """

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        strict=True,
        validate_default=True,
        allow_inf_nan=False,
    )

    @classmethod
    def __get_pydantic_core_schema__(cls, source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Accept the JSON form of each field's type, such as a list for a tuple."""
        try:
            schema = handler(source)
        except PydanticSchemaGenerationError as error:
            raise _error_of_field(cls, error) from error
        return read_json_forms(handler.resolve_ref_schema(schema), cls, handler.resolve_ref_schema)

    @classmethod
    def _unknown_key(cls, key: str, data: Mapping[str, Any]) -> str:
        """Return the reason why a key of `data` is refused, with a suggestion."""
        return f"no field named {key!r}" + did_you_mean_field(key, cls.model_fields)

    @model_validator(mode="wrap")
    @classmethod
    def _explain_unknown_keys(cls, data: object, handler: ModelWrapValidatorHandler[Self]) -> Self:
        """Report unknown keys together with all other errors."""
        known = cls.__pydantic_fields__  # `model_fields` is slower: it looks for a deprecated use
        if not isinstance(data, dict) or data.keys() <= known.keys():
            return handler(data)
        unknown = [key for key in data if key not in known]
        errors = [error_at(cls._unknown_key(key, data), key, value=data[key]) for key in unknown]
        try:
            handler({key: value for key, value in data.items() if key in known})
        except ValidationError as error:
            errors += errors_below(error)
        raise ValidationError.from_exception_data(cls.__name__, errors)


def _error_of_field(model: type[BaseModel], error: PydanticSchemaGenerationError) -> TypeError:
    """Name the field whose type pydantic does not know, such as `torch.dtype`."""
    for name, field in model.__pydantic_fields__.items():
        try:
            TypeAdapter[object](field.annotation or object)
        except PydanticSchemaGenerationError:
            return TypeError(
                f"{model.__qualname__}: the option {name!r} has the type {field.annotation}, which has no JSON form. "
                "Use a type that JSON can hold, such as str, and convert it in the component"
            )
        except Exception:
            continue
    return TypeError(f"{model.__qualname__}: {error}")
