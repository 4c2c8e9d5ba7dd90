"""`ModelSpec`, the spec of one model, and the rules that its components must satisfy together."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, PositiveInt, ValidationError, model_validator
from pydantic_core import InitErrorDetails

from gptzoo.component import Config
from gptzoo.dims import Dims
from gptzoo.errors import SpecError
from gptzoo.reference import PerLayer, Reference, by_default
from gptzoo.spec.hints.fields import hint_for_field
from gptzoo.spec.overrides import set_field
from gptzoo.spec.width.parametrisation import Parametrisation
from gptzoo.strict_model import StrictModel, error_at, reason_of
from gptzoo.utils.notebook.view import NotebookView

if TYPE_CHECKING:
    from gptzoo.components.part import Part

_CONTAINERS = (Config, tuple, list)  # of configs
PER_LAYER = ("attention", "positional", "ffn")  # fields that may be lists, cycled over the layers
_COMPONENTS = ("norm", "activation", *PER_LAYER, "architecture")  # the last may inherit the others


class ModelSpec(StrictModel, NotebookView):
    """The spec of a GPT. Every spec that passes validation can be built."""

    spec_version: Literal[1] = 1
    """Version of the spec format."""
    name: str = "model"
    """Name of the model in plots, model cards and error messages."""
    vocab_size: Annotated[int, Field(gt=0, le=2**31)] | None = None
    """Number of token ids. Default: the tokenizer's, in a training run."""
    context_length: Annotated[int, Field(gt=0, le=2**31)]
    """Length of a training sequence in tokens. Learned positions cannot go beyond it."""
    d_model: Annotated[int, Field(gt=0, le=2**20)]
    """Width of the residual stream."""
    n_layers: Annotated[int, Field(gt=0, le=2**16)]
    """Number of blocks."""
    n_heads: PositiveInt
    """Number of query heads. It must divide `d_model`, unless `d_head` is given."""
    d_head: Annotated[int, Field(gt=0, le=2**16)] | None = None
    """Width of an attention head. Default: d_model / n_heads. With another width, the queries of all heads together are
    wider or narrower than the residual stream, as in Gemma and Qwen3."""
    architecture: Annotated[Any, Reference("architecture")] = by_default("decoder")
    """Overall architecture of the model."""
    attention: Annotated[Any, PerLayer("attention")] = by_default("sdpa")
    """Attention of each layer: one component, or a list that is cycled over the layers."""
    positional: Annotated[Any, PerLayer("positional")] = by_default("learned")
    """Position encoding of each layer: one component, or a list that is cycled over the layers."""
    norm: Annotated[Any, Reference("norm")] = by_default("pre_ln")
    """Norm scheme: placement of the norm layers in a block, such as pre-norm or post-norm."""
    activation: Annotated[Any, Reference("activation")] = by_default("gelu")
    """Activation function. Applies to feed-forward networks that do not set their own `activation`."""
    ffn: Annotated[Any, PerLayer("ffn")] = by_default("mlp")
    """Feed-forward network of each layer: one component, or a list that is cycled over the layers."""
    dropout: float = Field(default=0.0, ge=0.0, lt=1.0)
    """Dropout probability. Applies to components that do not set their own `dropout`."""
    bias: bool = True
    """Learn a bias in linear layers and norms. Applies to components that do not set their own `bias`."""
    tie_embeddings: bool = True
    """Use the same matrix for the token embedding and the output head."""
    parametrisation: Parametrisation | None = Field(default=None, json_schema_extra={"added": True})
    """Parametrisation by width, such as `{"type": "mup", "base": {"d_model": 64, "n_heads": 4}}`: initial values,
    learning rates and multipliers change with the width so that the best learning rate does not. Default: none."""

    @classmethod
    def _unknown_key(cls, key: str, data: Mapping[str, Any]) -> str:
        return f"no field named {key!r}" + hint_for_field(key, cls, data, prefix="model.")

    def per_layer(self, field: str) -> list[Part.Config]:
        """Return the config of `attention`, `positional` or `ffn` for each layer."""
        cycle = _as_tuple(getattr(self, field))
        return [cycle[layer % len(cycle)] for layer in range(self.n_layers)]

    @property
    def dims(self) -> Dims:
        """The sizes of the model. Raises ValueError if vocab_size is not set."""
        if self.vocab_size is None:
            raise ValueError("the spec has no vocab_size yet")
        return self._dims(self.vocab_size)

    def _dims(self, vocab_size: int) -> Dims:
        return Dims(vocab_size, self.context_length, self.d_model, self.n_layers, self.n_heads, head_width=self.d_head)

    def resolved(self) -> dict[str, Any]:
        """Return the spec as JSON with all defaults and inherited options filled in. It reads back as an equal spec."""
        return self.model_dump(mode="json")

    def at_base_width(self) -> ModelSpec:
        """Return the spec at the base width of its parametrisation, without a parametrisation.

        Raises SpecError or ValidationError if there is no such model.
        """
        assert self.parametrisation is not None
        inheriting = {field: self._disinherit(getattr(self, field)) for field in _COMPONENTS}
        spec = self.model_copy(update={**inheriting, "parametrisation": None})
        paths = {tuple(path.split(".")): value for path, value in self.parametrisation.base.items()}
        as_json = spec.model_dump(mode="json", include={root for root, *options in paths if options})
        data = {**dict(spec), **as_json}  # other components need not be registered
        for path, value in paths.items():
            set_field(ModelSpec, data, list(path), value)
        return ModelSpec.model_validate(data)

    def with_multipliers(self) -> ModelSpec:
        """Return the spec of the same function without a parametrisation: its multipliers are options of components."""
        if self.parametrisation is None:
            return self
        base, own = self.at_base_width()._dims(1), self._dims(1)
        fields = {field: _at_width(getattr(self, field), base, own) for field in _COMPONENTS}
        return self.model_copy(update={**fields, "parametrisation": None})

    @model_validator(mode="after")
    def _resolve_and_check(self) -> ModelSpec:
        for field in _COMPONENTS:
            object.__setattr__(self, field, _shortest_cycle(self._inherit(getattr(self, field))))
        if self.d_head is not None and self.d_head * self.n_heads == self.d_model:
            object.__setattr__(self, "d_head", None)  # the default, so that specs of the same model are equal
        errors = list(self._shape_problems()) or [*self._component_problems(), *self._pairing_problems()]
        errors = errors or list(self._width_problems())
        if errors:
            raise ValidationError.from_exception_data("ModelSpec", errors)
        return self

    def _inherit(self, value: object) -> object:
        """Fill in the options that the configs in `value`, nested ones included, inherit from the model."""
        if isinstance(value, tuple | list):
            items = [self._inherit(item) for item in value]
            is_same = all(a is b for a, b in zip(items, value, strict=True))
            return value if is_same else type(value)(items)
        if not isinstance(value, Config):
            return value
        current = {name: getattr(value, name) for name in value.__pydantic_fields__}
        filled = {name: self._inherit(of) for name, of in current.items() if isinstance(of, _CONTAINERS)}
        for name, source in _inherited_options(type(value)):
            if current[name] is None:
                filled[name] = getattr(self, source, None)
        changed = {name: of for name, of in filled.items() if of is not current[name]}
        return value.model_copy(update=changed) if changed else value

    def _disinherit(self, value: object) -> object:
        """Undo `_inherit`: options that inherit a field of the model and are equal to it become None."""
        if isinstance(value, tuple | list):
            return type(value)(map(self._disinherit, value))
        if not isinstance(value, Config):
            return value
        fields = {name: self._disinherit(getattr(value, name)) for name in type(value).model_fields}
        for name, source in _inherited_options(type(value)):
            if getattr(value, name) == getattr(self, source, None):
                fields[name] = None
        return value.model_copy(update=fields)

    def _width_problems(self) -> Iterator[InitErrorDetails]:
        """Check that the model exists at the base width, and that every component has its multipliers."""
        if self.parametrisation is None:
            return
        try:
            base = self.at_base_width()
        except SpecError as error:
            for problem in error.problems:
                yield error_at(f"{problem.path}: {problem.reason}", "parametrisation", "base")
            return
        except ValidationError as error:
            for details in error.errors(include_url=False):
                path = ".".join(map(str, details["loc"]))
                reason = f"there is no such model: {path}: {reason_of(details)}"
                yield error_at(reason, "parametrisation", "base")
            return
        for field in _COMPONENTS:
            for location, config in _configs_in(getattr(self, field), field):
                try:
                    config.at_width(base._dims(1), self._dims(1))
                except ValueError as error:
                    reason = f"is not defined under parametrisation 'mup': {config.type!r} {error}"
                    yield error_at(reason, *location)

    def _shape_problems(self) -> Iterator[InitErrorDetails]:
        if self.d_head is None and self.d_model % self.n_heads:
            reason = f"must divide d_model {self.d_model}, got {self.n_heads}"
            yield error_at(reason, "n_heads", value=self.n_heads)
        for field in PER_LAYER:
            length = len(_as_tuple(getattr(self, field)))
            if length > self.n_layers:
                yield error_at(f"has {length} entries, but the model has only {self.n_layers} layers", field)

    def _component_problems(self) -> Iterator[InitErrorDetails]:
        """Check the rules of each single component."""
        dims = self._dims(self.vocab_size or 1)
        for field in ("architecture", "norm", "activation", *PER_LAYER):
            for location, config in _configs_in(getattr(self, field), field):
                for option, source in _inherited_options(type(config)):
                    if source not in type(self).model_fields:
                        yield error_at(f"inherits {source!r}, which is not a field of a model", *location, option)
                for option, reason in config.problems(dims):
                    yield error_at(reason, *location, *([option] if option else []))

    def _pairing_problems(self) -> Iterator[InitErrorDetails]:
        """Check that the attention of each layer supports what its positional and the architecture require."""
        reported = set()
        attentions = self.per_layer("attention")
        if self.d_head is not None and self.d_head * self.n_heads != self.d_model:
            for name in sorted({a.type for a in attentions if "d_head" not in a.component.supports}):
                reason = (
                    f"{self.n_heads} heads of width {self.d_head} differ from d_model {self.d_model}, which attention "
                    f"{name!r} does not support"
                )
                yield error_at(reason, "d_head", value=self.d_head)
        positionals = zip(self.per_layer("positional"), attentions, strict=True)
        pairs = [*positionals, *((self.architecture, attention) for attention in attentions)]
        for layer, (config, attention) in enumerate(pairs):
            missing = config.component.requires - attention.component.supports
            if missing and (config.type, attention.type) not in reported:
                reported.add((config.type, attention.type))
                kind = config.component.kind
                cycle = getattr(self, kind)
                yield error_at(
                    f"{config.type!r} {_in_words(missing)}, which attention {attention.type!r} does not support",
                    *((kind, layer % len(cycle)) if isinstance(cycle, tuple) else (kind,)),
                )


_REQUIREMENTS = {
    "rotate": "rotates queries and keys",
    "bias": "adds a score bias",
    "noncausal": "lets tokens attend to later ones",
}


def _in_words(requirements: frozenset[str]) -> str:
    return " and ".join(_REQUIREMENTS.get(name, f"requires {name!r}") for name in sorted(requirements))


def _as_tuple(value: Part.Config | tuple[Part.Config, ...]) -> tuple[Part.Config, ...]:
    return value if isinstance(value, tuple) else (value,)


def _shortest_cycle(value: object) -> object:
    """Return the shortest equivalent cycle, so that specs of the same model are equal.

    A cycle of length 1 becomes its element.
    """
    if not isinstance(value, tuple):
        return value
    n = len(value)
    # Only periods that divide the length are equivalent. Any other would repeat differently after the end.
    period = next(p for p in range(1, n + 1) if value == value[:p] * (n // p))
    return value[0] if period == 1 else value[:period]


def _at_width(value: object, base: Dims, dims: Dims) -> object:
    """Return configs, nested ones included, with the multipliers of the width."""
    if isinstance(value, tuple | list):
        return type(value)(_at_width(item, base, dims) for item in value)
    if not isinstance(value, Config):
        return value
    nested = {name: _at_width(getattr(value, name), base, dims) for name in type(value).model_fields}
    return value.model_copy(update=nested).at_width(base, dims)


@cache
def _inherited_options(config: type[Config]) -> tuple[tuple[str, str], ...]:
    """Return the `inherited` options of a config, each with the field of the model whose value it takes."""
    extras = {name: field.json_schema_extra for name, field in config.model_fields.items()}
    return tuple(
        (n, str(extra["inherits"])) for n, extra in extras.items() if isinstance(extra, dict) and "inherits" in extra
    )


def _configs_in(value: object, *location: str | int) -> Iterator[tuple[tuple[str | int, ...], Config]]:
    """Yield every config in `value`, nested ones included, with its location."""
    if isinstance(value, tuple | list):
        for index, item in enumerate(value):
            yield from _configs_in(item, *location, index)
    elif isinstance(value, Config):
        yield location, value
        for name in value.__pydantic_fields__:
            if isinstance(nested := getattr(value, name), _CONTAINERS):
                yield from _configs_in(nested, *location, name)
