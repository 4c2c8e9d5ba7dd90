"""The spec of one model, and the rules that its parts must keep together."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, PositiveInt, ValidationError, model_validator
from pydantic_core import InitErrorDetails

from gptzoo.component import Config, SpecModel, error_at
from gptzoo.dims import Dims
from gptzoo.reference import PerLayer, Reference, by_default

if TYPE_CHECKING:
    from gptzoo.components.part import Part

PER_LAYER = ("attention", "positional", "ffn")


class ModelSpec(SpecModel):
    """A GPT, described. Valid by construction: what can be read can be built."""

    spec_version: Literal[1] = 1
    """Of this format."""
    name: str = "model"
    """What cards, curves and errors call it."""
    vocab_size: Annotated[int, Field(gt=0, le=2**31)] | None = None
    """Number of token ids. A run may leave it out: it then takes the tokenizer's."""
    context_length: Annotated[int, Field(gt=0, le=2**31)]
    """Tokens in a training sequence; the longest that learned positions reach."""
    d_model: Annotated[int, Field(gt=0, le=2**20)]
    """Width of the residual stream."""
    n_layers: Annotated[int, Field(gt=0, le=2**16)]
    """Blocks of the stack."""
    n_heads: PositiveInt
    """Query heads; must divide d_model."""
    architecture: Annotated[Any, Reference("architecture")] = by_default("decoder")
    attention: Annotated[Any, PerLayer("attention")] = by_default("sdpa")
    positional: Annotated[Any, PerLayer("positional")] = by_default("learned")
    norm: Annotated[Any, Reference("norm")] = by_default("pre_ln")
    activation: Annotated[Any, Reference("activation")] = by_default("gelu")
    ffn: Annotated[Any, PerLayer("ffn")] = by_default("mlp")
    dropout: float = Field(default=0.0, ge=0.0, lt=1.0)
    """Default of every dropout that a part leaves out."""
    bias: bool = True
    """Default of every bias that a part leaves out."""
    tie_embeddings: bool = True
    """One matrix for the token embedding and the output head."""

    def per_layer(self, field: str) -> list[Part.Config]:
        """The config of `attention`, `positional` or `ffn` for each layer, its list cycled over the depth."""
        cycle = _as_tuple(getattr(self, field))
        return [cycle[layer % len(cycle)] for layer in range(self.n_layers)]

    @property
    def dims(self) -> Dims:
        if self.vocab_size is None:
            raise ValueError("the spec has no vocab_size yet")
        return self._dims(self.vocab_size)

    def _dims(self, vocab_size: int) -> Dims:
        return Dims(vocab_size, self.context_length, self.d_model, self.n_layers, self.n_heads)

    def resolved(self) -> dict[str, Any]:
        """The spec as JSON with every default and inherited option shown; reading it gives an equal spec."""
        return self.model_dump(mode="json")

    @model_validator(mode="after")
    def _resolve_and_check(self) -> ModelSpec:
        for field in ("norm", "activation", *PER_LAYER, "architecture"):  # which may inherit any of the others
            object.__setattr__(self, field, _canonical(self._inherit(getattr(self, field))))
        errors = list(self._shape_problems()) or [*self._part_problems(), *self._pairing_problems()]
        if errors:
            raise ValidationError.from_exception_data("ModelSpec", errors)
        return self

    def _inherit(self, value: Any) -> Any:
        """The value with all filled in that its configs, nested ones too, left out and inherit from the model."""
        if isinstance(value, tuple | list):
            return type(value)(map(self._inherit, value))
        if not isinstance(value, Config):
            return value
        filled = {name: self._inherit(getattr(value, name)) for name in type(value).model_fields}
        for name, source in _inheriting(type(value)):
            if filled[name] is None:
                filled[name] = getattr(self, source, None)
        return value.model_copy(update=filled)

    def _shape_problems(self) -> Iterator[InitErrorDetails]:
        if self.d_model % self.n_heads:
            reason = f"d_model {self.d_model} does not divide into {self.n_heads} heads"
            yield error_at(reason, "n_heads", value=self.n_heads)
        for field in PER_LAYER:
            length = len(_as_tuple(getattr(self, field)))
            if length > self.n_layers:
                yield error_at(f"a list of {length} for {self.n_layers} layers; the last would never be used", field)

    def _part_problems(self) -> Iterator[InitErrorDetails]:
        """The rules of each part by itself."""
        dims = self._dims(self.vocab_size or 1)
        for field in ("architecture", "norm", "activation", *PER_LAYER):
            for location, config in _locate(getattr(self, field), field):
                for option, source in _inheriting(type(config)):
                    if source not in type(self).model_fields:
                        yield error_at(f"inherits {source!r}, which a model does not have", *location, option)
                for option, reason in config.problems(dims):
                    yield error_at(reason, *location, *([option] if option else []))

    def _pairing_problems(self) -> Iterator[InitErrorDetails]:
        """What a positional needs, the attention of its layer must honour; what an architecture needs, all must."""
        reported = set()
        attentions = self.per_layer("attention")
        positionals = zip(self.per_layer("positional"), attentions, strict=True)
        for layer, (part, attention) in enumerate([*positionals, *((self.architecture, each) for each in attentions)]):
            missing = part.component.requires - attention.component.supports
            if missing and (part.type, attention.type) not in reported:
                reported.add((part.type, attention.type))
                kind = part.component.kind
                cycle = getattr(self, kind)
                yield error_at(
                    f"{part.type!r} {_in_words(missing)}, which attention {attention.type!r} does not honour",
                    *((kind, layer % len(cycle)) if isinstance(cycle, tuple) else (kind,)),
                )


_NEEDS = {
    "rotate": "rotates queries and keys",
    "bias": "adds a score bias",
    "noncausal": "lets tokens see the future",
}


def _in_words(needs: frozenset[str]) -> str:
    return " and ".join(_NEEDS.get(need, f"needs {need!r}") for need in sorted(needs))


def _as_tuple(value: Any) -> tuple[Config, ...]:
    return value if isinstance(value, tuple) else (value,)


def _canonical(value: Any) -> Any:
    """A cycle by its shortest period, so that specs that describe one model are equal; a period of one is no list."""
    if not isinstance(value, tuple):
        return value
    n = len(value)
    # A period that does not divide the list is none: it would repeat differently beyond the end.
    period = next(p for p in range(1, n + 1) if value == value[:p] * (n // p))
    return value[0] if period == 1 else value[:period]


@cache
def _inheriting(config: type[Config]) -> tuple[tuple[str, str], ...]:
    """The options that are `inherited`, each with the field of the model that it takes."""
    extras = {name: field.json_schema_extra for name, field in config.model_fields.items()}
    return tuple(
        (n, str(extra["inherits"])) for n, extra in extras.items() if isinstance(extra, dict) and "inherits" in extra
    )


def _locate(value: Any, *location: str | int) -> Iterator[tuple[tuple[str | int, ...], Config]]:
    """Every config in `value`, nested ones included, with its location."""
    if isinstance(value, tuple | list):
        for index, item in enumerate(value):
            yield from _locate(item, *location, index)
    elif isinstance(value, Config):
        yield location, value
        for name in type(value).model_fields:
            yield from _locate(getattr(value, name), *location, name)
