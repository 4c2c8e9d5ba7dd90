"""What every component is, of whatever kind: a class, a registered name and a `Config`, its JSON face.

    class Alibi(gptzoo.Positional):            # the base class gives the kind
        '''One line that says what it is.'''
        name = "alibi"

        class Config(gptzoo.Positional.Config):
            max_bias: float = 8.0

A `Config` is a frozen pydantic model that knows its component, so building one needs no registry:
`config.build(...)` is `Alibi(config, ...)`. This file imports no torch.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from typing import Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model, model_validator
from pydantic_core import InitErrorDetails, PydanticCustomError


def nearest(name: str, known: Iterable[str]) -> str:
    """`"; did you mean 'dropout'?"`, or nothing when no known name is near."""
    match = difflib.get_close_matches(name, list(known), n=1)
    return f"; did you mean {match[0]!r}?" if match else ""


def refusal(reason: str) -> PydanticCustomError:
    """What a validator raises to refuse a value with exactly this text."""
    return PydanticCustomError("gptzoo", reason)


def located(reason: str, *location: str | int, value: Any = None) -> InitErrorDetails:
    """One entry of a pydantic ValidationError whose message is `reason`, at `location`."""
    return InitErrorDetails(
        type=refusal(reason),
        loc=location,
        input=value,
    )


_IN_JSON = {
    "dict_type": "an object",
    "list_type": "a list",
    "model_type": "an object",
    "tuple_type": "a list",
}
"""What pydantic calls by names of Python, under the types of its errors."""


def reason_of(error: Any) -> str:
    """The reason in one entry of `ValidationError.errors()`, in this project's words."""
    if error["type"] == "missing":
        return "is required"
    if error["type"] in _IN_JSON:
        return f"should be {_IN_JSON[error['type']]}"
    text = str(error["msg"])
    return "should" + text.removeprefix("Input should") if text.startswith("Input should") else text


def relocated(error: ValidationError, *prefix: str | int) -> list[InitErrorDetails]:
    """The entries of a ValidationError, to be raised again from further out in the spec."""
    return [located(reason_of(e), *prefix, *e["loc"], value=e["input"]) for e in error.errors(include_url=False)]


class SpecModel(BaseModel):
    """Base of all that is read from JSON: frozen, strictly typed, unknown keys refused with the nearest match."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        strict=True,
        validate_default=True,
        allow_inf_nan=False,
    )

    @classmethod
    def _unknown_key(cls, key: str) -> str:
        return f"no field named {key!r}" + nearest(key, cls.model_fields)

    @model_validator(mode="wrap")
    @classmethod
    def _explain_unknown_keys(cls, data: Any, handler: Any) -> Any:
        """Report unknown keys together with all that else is wrong, instead of one or the other."""
        known = cls.__pydantic_fields__  # model_fields without what looking that up costs
        if not isinstance(data, dict) or not (unknown := [key for key in data if key not in known]):
            return handler(data)
        errors = [located(cls._unknown_key(key), key, value=data[key]) for key in unknown]
        try:
            handler({key: value for key, value in data.items() if key in known})
        except ValidationError as error:
            errors += relocated(error)
        raise ValidationError.from_exception_data(cls.__name__, errors)


def inherited(name: str, description: str | None = None) -> Any:
    """The default of an option that takes the model's own `name` (`bias`, `dropout`, `activation`, …) when left out.

    In a `ModelSpec` such options are never None: the spec fills them in when it is read.
    """
    return Field(default=None, description=description, json_schema_extra={"inherits": name})


class Config(SpecModel):
    """The options of a component. `type` is the component's name; everything else is the author's."""

    component: ClassVar[Any]  # the class that this configures
    type: str = ""

    @classmethod
    def _unknown_key(cls, key: str) -> str:
        return f"{cls.component.name!r} has no option {key!r}" + nearest(key, cls.model_fields)

    def build(self, *args: Any, **kwargs: Any) -> Any:
        """The component that this config describes."""
        return self.component(self, *args, **kwargs)

    def problems(self, dims: Any) -> Iterator[tuple[str, str]]:
        """Yield `(option, reason)` for whatever cannot work in a model of `dims`; option "" is the component itself.

        Override it to state rules across fields; they are checked, and located, when a spec is read.
        """
        yield from ()


_BaseConfig = Config  # inside Component the name means the component's own


class Component:
    """Base of all components. A subclass that sets `name` can be registered; one without is a base class."""

    kind: ClassVar[str] = ""
    name: ClassVar[str] = ""  # the "type" of its specs
    paper: ClassVar[str] = ""
    version: ClassVar[int] = 1
    """Of the options: raise it when an older config would not be read, or would mean something else, and migrate."""

    class Config(_BaseConfig):
        """No options."""

    @classmethod
    def migrate(cls, config: dict[str, Any], version: int) -> dict[str, Any]:
        """The JSON of a config as it is today, from one that was written when `version`, below today's, was current.

        Asked for files that gptzoo wrote (`run.json`, `model.json`), which keep the version; not for specs by hand.
        """
        return config

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if not issubclass(cls.Config, _BaseConfig):
            raise TypeError(f"{cls.__qualname__}.Config must derive from the Config of its base class")
        # Each class gets a Config of its own, also where it inherits its options, so that a config finds its class.
        name = cls.__dict__.get("name", "")
        fields: dict[str, Any] = {"type": (Literal[name], name)} if name else {}
        cls.Config = create_model(  # type: ignore[misc]
            f"{cls.__name__}.Config", __base__=cls.Config, __module__=cls.__module__, __doc__=cls.__doc__, **fields
        )
        cls.Config.component = cls
