"""A case beyond toy sizes: sizes of the model and the batch, and values of options; and its simpler neighbours."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple


class ModelShape(NamedTuple):
    """The sizes of a model that do not depend on the length of its rows."""

    d_model: int
    n_heads: int
    n_layers: int
    vocab_size: int


MODEL_SHAPES = (  # from simple to large; head widths are even, because a rotation needs pairs
    ModelShape(32, 4, 2, 13),
    ModelShape(64, 4, 2, 13),
    ModelShape(32, 1, 2, 13),
    ModelShape(72, 9, 2, 70),
    ModelShape(32, 4, 5, 13),
    ModelShape(136, 2, 1, 140),
    ModelShape(68, 17, 1, 13),
    ModelShape(260, 2, 1, 300),
)


@dataclass(frozen=True)
class Case:
    """A case of a property. The property says what the parts of a row are, such as documents or chunks."""

    parts: tuple[int, ...]  # numbers of tokens; a row is their sum
    batch_size: int = 2
    context_length: int = 0  # of the model; 0 is the length of a row, but at least 16
    options: Mapping[str, Any] = field(default_factory=dict)  # as JSON, changed from those under test
    partner: str = ""  # a component of another kind in the model, as "kind:type"
    shape: int = 0  # index into MODEL_SHAPES
    gain: int = 1  # factor on the noise that is added to the weights
    variant: int = 0  # bits that select variants of the property, such as training mode

    @property
    def length(self) -> int:
        """The number of tokens in a row."""
        return sum(self.parts)

    @property
    def resolved_context_length(self) -> int:
        """The context length of the model."""
        return self.context_length or max(16, self.length)

    def describe(self) -> str:
        """Return the options and sizes that differ from the tiny model of the toy checks, or an empty string."""
        settings = [f"{name} {_show(value)}" for name, value in self.options.items()]
        if self.partner:
            kind, _, name = self.partner.partition(":")
            settings.append(f"{kind} {name!r}")
        for (name, value), default in zip(MODEL_SHAPES[self.shape]._asdict().items(), MODEL_SHAPES[0], strict=True):
            if value != default:
                settings.append(f"{name} {value}")
        if self.context_length:
            settings.append(f"context_length {self.context_length}")
        if self.gain != 1:
            settings.append("large weights")
        return f"with {', '.join(settings)}: " if settings else ""


def simpler_cases(case: Case) -> Iterator[Case]:
    """Yield simpler cases: with defaults first, then with smaller numbers, large steps before small ones."""
    for name in case.options:
        yield replace(case, options={other: value for other, value in case.options.items() if other != name})
    for changes in ({"partner": ""}, {"shape": 0}, {"gain": 1}, {"context_length": 0}, {"variant": 0}):
        if any(getattr(case, name) != value for name, value in changes.items()):
            yield replace(case, **changes)
    yield from (replace(case, shape=shape) for shape in range(1, case.shape))
    yield from (replace(case, batch_size=size) for size in _smaller(case.batch_size))
    yield from (replace(case, parts=parts) for parts in _simpler_parts(case.parts))
    for name, value in case.options.items():
        if isinstance(value, int) and not isinstance(value, bool):
            yield from (replace(case, options={**case.options, name: smaller}) for smaller in _smaller(value))
    for bit in (1, 2):
        if case.variant & bit and case.variant != bit:
            yield replace(case, variant=case.variant & ~bit)


def _simpler_parts(parts: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
    n = len(parts)
    if n > 2:
        yield parts[: n // 2]
        yield parts[n // 2 :]
    for i in range(n if n > 1 else 0):
        yield parts[:i] + parts[i + 1 :]
    for i in range(n - 1):
        yield (*parts[:i], parts[i] + parts[i + 1], *parts[i + 2 :])
    for i in range(n):
        yield from ((*parts[:i], smaller, *parts[i + 1 :]) for smaller in _smaller(parts[i]))


def _smaller(number: int) -> Iterator[int]:
    """Yield smaller positive numbers, far ones first. Halves keep a number even."""
    candidates = (1, 2, number // 4, number // 2, 3 * number // 4, *_below(number))
    yield from (smaller for smaller in dict.fromkeys(candidates) if 0 < smaller < number)


def _below(number: int) -> Iterator[int]:
    step = number // 8
    while step > 0:
        yield number - step
        step //= 2


def _show(value: object) -> str:
    return value if isinstance(value, str) else f"{value:g}" if isinstance(value, float) else json.dumps(value)
