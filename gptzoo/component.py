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

import inspect
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, TypeVar

from pydantic import ConfigDict, Field, create_model

from gptzoo.strict_model import StrictModel, did_you_mean_field

if TYPE_CHECKING:
    from gptzoo.dims import Dims

T = TypeVar("T")

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


@dataclass(frozen=True)
class Recommended:
    """A setting of the run around a component, which the component needs to work as its authors intend."""

    field: str
    """The field of a run, such as `model.architecture.embed_scale` or `optimizer.lr`."""
    source: str
    """The paper or measurement that the setting comes from."""
    value: Any = None
    """The recommended value, as JSON."""
    factor: float | None = None
    """In place of a value: a multiple of the number that suits the component which this one replaces."""


class Config(StrictModel):
    """The options of a component. `type` is the name of the component; the component's author adds the other fields."""

    model_config = ConfigDict(defer_build=True)
    """pydantic builds the validator of a class on its first use. `Component` does so for the class that is used."""

    component: ClassVar[type[Component]]  # the class that this config belongs to
    training_only: ClassVar[frozenset[str]] = frozenset()
    """Options that act in training only, such as the scale of initial weights. Options that inherit the model's
    `dropout` count without being listed."""
    type: str = ""

    @classmethod
    def _unknown_key(cls, key: str, data: Mapping[str, Any]) -> str:
        return f"{cls.component.name!r} has no option {key!r}" + did_you_mean_field(key, cls.model_fields)

    def build(self, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401  each kind has its own arguments
        """Construct the component that this config describes."""
        build: Any = self.component
        return build(self, *args, **kwargs)

    def problems(self, dims: Dims) -> Iterator[tuple[str, str]]:
        """Yield `(option, reason)` for each option that cannot work in a model of `dims`.

        An option of "" means the component as a whole. Override it to check rules that involve several fields. They are
        checked when a spec is read, and errors give its location.
        """
        yield from ()

    def recommended(self, model: Mapping[str, Any]) -> Iterator[Recommended]:
        """Yield the settings of the run around the component that it needs to work as its authors intend.

        They are shown with a model that has the component, and an axis of an ablation takes them along. `model` is the
        resolved spec of the model as JSON. Override it where the defaults, which suit common models, do not suit.
        """
        yield from ()

    def canonical(self, dims: Dims) -> Config:
        """Return the simplest config of the same function, with the same parameters under the same names.

        Specs of the same function can then be compared, as the export of a model does. Override it to fill in an
        option whose default is computed, or to name the component that another one reimplements. `dropout` and the
        like stay as they are.
        """
        return self

    def at_width(self, base: Dims, dims: Dims) -> Config:
        """Return the config for a model of `dims` whose options were chosen for one of `base`, under muP.

        Override it where the function has a factor that muP changes with the width: scores of queries and keys shrink
        with 1 / d_head, logits with 1 / d_model. Nested configs are changed by themselves. Raise ValueError, with the
        rest of a sentence about the component, if muP is not defined for it.
        """
        return self


def summary_of(documented: type) -> str:
    """Return the first line of the docstring of a class, or an empty string. It is not inherited."""
    return inspect.cleandoc(documented.__doc__ or "").partition("\n")[0]


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
        # Each class gets its own Config, even if it inherits all options, so that a config finds its class. A Config in
        # the body of the class that already has the class's name as its `type` stays as it is.
        name = cls.__dict__.get("name", "")
        fields: dict[str, Any] = {"type": (Literal[name], name)} if name else {}
        is_own = "Config" in cls.__dict__ and "component" not in vars(cls.Config)
        if not (is_own and name and cls.Config.model_fields["type"].annotation == Literal[name]):
            cls.Config = create_model(  # type: ignore[misc]
                f"{cls.__name__}.Config", __base__=cls.Config, __module__=cls.__module__, __doc__=cls.__doc__, **fields
            )
        cls.Config.model_rebuild()  # raises TypeError for an option that no spec can hold
        cls.Config.component = cls
