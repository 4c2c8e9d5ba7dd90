"""The base classes of all components: `Component`, and `Config` for its options in a spec.

    class Alibi(gptzoo.Positional):            # the base class sets the kind
        '''Linear attention biases.'''
        name = "alibi"

        class Config(gptzoo.Positional.Config):
            max_bias: float = 8.0
            '''Exponent of the steepest slope.'''

        config: Config                         # for type checkers and editors

A `Config` is a frozen pydantic model that knows its component class: `config.build(dims)` returns `Alibi(config, dims)`
without a look into the registry. This file does not import torch.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self, TypeVar

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ModelWrapValidatorHandler,
    ValidationError,
    create_model,
    model_validator,
)
from pydantic_core import ErrorDetails, InitErrorDetails, PydanticCustomError

if TYPE_CHECKING:
    from gptzoo.dims import Dims

T = TypeVar("T")


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return a suggestion such as `"; did you mean 'dropout'?"`, or "" if no known name is similar."""
    match = difflib.get_close_matches(name, list(known), n=1)
    return f"; did you mean {match[0]!r}?" if match else ""


def custom_error(reason: str) -> PydanticCustomError:
    """Return an error for validators to raise whose message is exactly `reason`."""
    return PydanticCustomError("gptzoo", reason)


def error_at(reason: str, *location: str | int, value: object = None) -> InitErrorDetails:
    """Return one entry for a pydantic ValidationError with the message `reason` at `location`."""
    return InitErrorDetails(type=custom_error(reason), loc=location, input=value)


_JSON_TYPES = {
    "dict_type": "an object",
    "list_type": "a list",
    "model_type": "an object",
    "tuple_type": "a list",
}
"""JSON's name for the expected type, by the pydantic error type whose message uses Python's name."""


def reason_of(error: ErrorDetails) -> str:
    """Return the message of one entry of `ValidationError.errors()`, in JSON's terms."""
    if error["type"] == "missing":
        return "is required"
    if error["type"] in _JSON_TYPES:
        return f"should be {_JSON_TYPES[error['type']]}"
    text = error["msg"]
    return "should" + text.removeprefix("Input should") if text.startswith("Input should") else text


def errors_below(error: ValidationError, *prefix: str | int) -> list[InitErrorDetails]:
    """Return the entries of a ValidationError with `prefix` before each location, to be raised again."""
    return [error_at(reason_of(e), *prefix, *e["loc"], value=e["input"]) for e in error.errors(include_url=False)]


class SpecModel(BaseModel):
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
    def _unknown_key(cls, key: str) -> str:
        return f"no field named {key!r}" + did_you_mean(key, cls.model_fields)

    @model_validator(mode="wrap")
    @classmethod
    def _explain_unknown_keys(cls, data: object, handler: ModelWrapValidatorHandler[Self]) -> Self:
        """Report unknown keys together with all other errors."""
        known = cls.__pydantic_fields__  # `model_fields` is slower: it looks for a deprecated use
        if not isinstance(data, dict) or not (unknown := [key for key in data if key not in known]):
            return handler(data)
        errors = [error_at(cls._unknown_key(key), key, value=data[key]) for key in unknown]
        try:
            handler({key: value for key, value in data.items() if key in known})
        except ValidationError as error:
            errors += errors_below(error)
        raise ValidationError.from_exception_data(cls.__name__, errors)


if TYPE_CHECKING:
    Inherited = Annotated[T, "a value, as the model's spec has filled it in"]
else:
    Inherited = T | None
"""The type of an `inherited` option: `bias: Inherited[bool] = inherited("bias")`. Null in JSON, a value in a model."""


def inherited(name: str, description: str | None = None) -> Any:  # noqa: ANN401  the default of a field of any type
    """Return a field default that takes the value of the model's field `name`, such as `bias` or `dropout`.

    In a component of a `ModelSpec` the option is never None: the spec fills it in when it is read.
    """
    return Field(default=None, description=description, json_schema_extra={"inherits": name})


class Config(SpecModel):
    """The options of a component. `type` is the name of the component; the component's author adds the other fields."""

    component: ClassVar[type[Component]]  # the class that this config belongs to
    type: str = ""

    @classmethod
    def _unknown_key(cls, key: str) -> str:
        return f"{cls.component.name!r} has no option {key!r}" + did_you_mean(key, cls.model_fields)

    def build(self, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401  each kind has its own arguments
        """Construct the component that this config describes."""
        build: Any = self.component
        return build(self, *args, **kwargs)

    def problems(self, dims: Dims) -> Iterator[tuple[str, str]]:
        """Yield `(option, reason)` for each option that cannot work in a model of `dims`.

        An option of "" means the component as a whole. Override it to check rules that involve several fields. They are
        checked when a spec is read, and errors name the place.
        """
        yield from ()


_BaseConfig = Config  # the class body of Component binds the name Config again


class Component:
    """Base class of all components. Only a subclass that sets `name` can be registered."""

    kind: ClassVar[str] = ""
    name: ClassVar[str] = ""  # the "type" in specs
    paper: ClassVar[str] = ""
    version: ClassVar[int] = 1
    """Version of the options. Raise it when an older config becomes invalid or changes its meaning; see `migrate`."""

    class Config(_BaseConfig):
        """No options."""

    @classmethod
    def migrate(cls, config: dict[str, Any], version: int) -> dict[str, Any]:
        """Return a current config for one that was written at an older `version`.

        It is called for files that gptzoo wrote (`run.json`, `model.json`), which record the version, and not for
        specs written by hand.
        """
        return config

    def __init_subclass__(cls, **kwargs: object) -> None:
        super().__init_subclass__(**kwargs)
        if not issubclass(cls.Config, _BaseConfig):
            raise TypeError(f"{cls.__qualname__}.Config must derive from the Config of its base class")
        # Each class gets its own Config, even if it inherits all options, so that a config finds its class.
        name = cls.__dict__.get("name", "")
        fields: dict[str, Any] = {"type": (Literal[name], name)} if name else {}
        cls.Config = create_model(  # type: ignore[misc]
            f"{cls.__name__}.Config", __base__=cls.Config, __module__=cls.__module__, __doc__=cls.__doc__, **fields
        )
        cls.Config.component = cls
