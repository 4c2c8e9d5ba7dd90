"""Options of any type that JSON can hold are given in a spec and read back; other types are refused at registration."""

from __future__ import annotations

import collections
import dataclasses
import datetime
import decimal
import enum
import fractions
import json
import os
import subprocess
import sys
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import pytest
import torch
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, PositiveInt, ValidationError, create_model
from support import admit

import gptzoo
from gptzoo import registry
from gptzoo.component import Component
from gptzoo.errors import PluginError, SpecError
from gptzoo.plugin_checks import check_component
from gptzoo.testing.properties.assembly.serialization import check_serialization
from gptzoo.testing.runner import put_under_test
from gptzoo.testing.verdict import Failed

UTC = datetime.UTC


class Color(enum.Enum):
    RED = "red"
    TWO = 2


class Word(str, enum.Enum):  # noqa: UP042  as many authors write it
    A = "a"
    B = "b"


class Count(enum.IntEnum):
    ONE = 1
    TWO = 2


class Point(NamedTuple):
    x: int
    y: float


class Loose(BaseModel):
    pair: tuple[int, int] = (1, 2)
    day: datetime.date = datetime.date(2026, 1, 1)


class Strict(BaseModel):
    model_config = ConfigDict(strict=True)
    pair: tuple[int, int] = (1, 2)
    day: datetime.date = datetime.date(2026, 1, 1)


@dataclasses.dataclass(frozen=True)
class Record:
    pair: tuple[int, ...] = (1,)
    path: Path = Path("x")


DAY = datetime.date(2026, 1, 2)
Grown = Annotated[tuple[PositiveInt, ...], Field(min_length=1), AfterValidator(lambda value: (*value, 9))]

# By type: a value, and its JSON as pydantic's own JSON mode writes it.
FORMS: list[tuple[Any, object, object]] = [
    (tuple[float, float], (0.1, 0.2), [0.1, 0.2]),
    (tuple[int, ...], (), []),
    (tuple[tuple[int, str], ...], ((1, "a"),), [[1, "a"]]),
    (set[str], {"b", "a"}, ["a", "b"]),
    (set[tuple[int, int]], {(1, 2), (0, 3)}, [[0, 3], [1, 2]]),
    (frozenset[int], frozenset({3, 1}), [1, 3]),
    (Path, Path("/a/b"), "/a/b"),
    (Path | None, Path("a"), "a"),
    (Color, Color.RED, "red"),
    (Color, Color.TWO, 2),
    (Word, Word.B, "b"),
    (Count, Count.TWO, 2),
    (datetime.date, DAY, "2026-01-02"),
    (datetime.datetime, datetime.datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=UTC), "2026-01-02T03:04:05.000006Z"),
    (datetime.time, datetime.time(1, 2, 3), "01:02:03"),
    (datetime.timedelta, datetime.timedelta(days=1, microseconds=3), "P1DT0.000003S"),
    (uuid.UUID, uuid.UUID(int=5), "00000000-0000-0000-0000-000000000005"),
    (decimal.Decimal, decimal.Decimal("1.10"), "1.10"),
    (fractions.Fraction, fractions.Fraction(1, 3), "1/3"),
    (bytes, b"ab", "ab"),
    (Loose, Loose(pair=(3, 4)), {"pair": [3, 4], "day": "2026-01-01"}),
    (Strict, Strict(pair=(3, 4)), {"pair": [3, 4], "day": "2026-01-01"}),
    (Record, Record((5,), Path("y")), {"pair": [5], "path": "y"}),
    (Point, Point(1, 2.0), [1, 2.0]),
    (collections.deque[int], collections.deque([1, 2]), [1, 2]),
    (dict[int, float], {1: 2.0}, {"1": 2.0}),
    (dict[datetime.date, tuple[int, int]], {DAY: (1, 2)}, {"2026-01-02": [1, 2]}),
    (dict[Color, int], {Color.RED: 1, Color.TWO: 2}, {"red": 1, "2": 2}),
    (dict[bool, int], {True: 1}, {"true": 1}),
    (Literal["a", 1], 1, 1),
    (Literal[Color.RED, Color.TWO], Color.TWO, 2),
    (list[tuple[Path, Color]], [(Path("q"), Color.RED)], [["q", "red"]]),
    (tuple[int, int] | float | None, (1, 2), [1, 2]),
    (tuple[frozenset[datetime.date], ...], (frozenset({DAY}),), [["2026-01-02"]]),
]

# By type: JSON that is not of this type. Strings are no numbers, and booleans no integers, at any depth.
WRONG: list[tuple[Any, object]] = [
    (tuple[int, ...], ["1"]),
    (tuple[int, ...], [True]),
    (tuple[int, ...], [1.0]),
    (tuple[int, ...], "12"),
    (tuple[int, int], [1]),
    (frozenset[int], ["1"]),
    (set[tuple[int, int]], [[1, "2"]]),
    (Path, 1),
    (Color, "green"),
    (Color, 2.0),
    (Count, "1"),
    (Count, True),
    (Word, "c"),
    (datetime.date, "tomorrow"),
    (datetime.date, True),
    (datetime.timedelta, True),
    (uuid.UUID, "x"),
    (decimal.Decimal, "x"),
    (bytes, 1),
    (Strict, {"pair": ["1", 1]}),
    (Record, {"pair": ["1"]}),
    (Point, ["1", 2]),
    (dict[int, float], {"1.5": 1.0}),
    (dict[int, float], {"x": 1.0}),
    (dict[Color, int], {"green": 1}),
    (Literal[Color.RED, Color.TWO], "2"),
    (tuple[int, int] | float | None, [1, "2"]),
    (int, "1"),
    (int, True),
    (float, "1"),
]


def component(annotation: Any, default: object, **config: Any) -> type[Component]:
    """Return an optimizer class with one option."""
    base = type("Base", (gptzoo.Optimizer.Config,), {"model_config": ConfigDict(**config)})
    options = create_model("Config", __base__=base, lr=(float, 0.1), option=(annotation, default))
    return type("Mine", (gptzoo.Optimizer,), {"name": "mine", "Config": options})


@pytest.mark.parametrize(("annotation", "value", "form"), FORMS, ids=[repr(annotation) for annotation, *_ in FORMS])
def test_an_option_is_written_and_read_back(annotation: Any, value: Any, form: object) -> None:
    mine = component(annotation, value)
    config = mine.Config()
    written = json.loads(json.dumps(config.model_dump(mode="json")))
    assert written["option"] == form
    read: Any = mine.Config.model_validate(written)
    assert read.option == value
    assert type(read.option) is type(value)
    assert mine.Config.model_validate({"option": value}) == config  # Python objects stay valid
    assert check_component(mine, {}) is mine


@pytest.mark.parametrize(("annotation", "value"), WRONG, ids=repr)
def test_json_of_another_type_is_refused(annotation: Any, value: object) -> None:
    mine = component(annotation | None, None)
    with pytest.raises(ValidationError):
        mine.Config.model_validate({"option": value})


def test_a_validator_of_an_option_runs_once() -> None:
    mine: Any = component(Grown, (1,))
    assert mine.Config.model_validate({"option": [1, 2]}).option == (1, 2, 9)


def test_the_error_of_an_option_names_its_place() -> None:
    with pytest.raises(ValidationError) as caught:
        component(dict[str, list[tuple[int, Color]]], {}).Config.model_validate({"option": {"a": [[1, "pink"]]}})
    (error,) = caught.value.errors()
    assert error["loc"] == ("option", "a", 0, 1)
    assert error["msg"] == "Input should be 'red' or 2"


@pytest.mark.parametrize(
    ("annotation", "default", "reason"),
    [
        (complex, 1j, "complex"),
        (tuple[complex, ...], (), "complex"),
        (complex | None, None, "complex"),
        (Callable[[int], int], abs, "a callable"),
        (torch.dtype, torch.float32, "torch.dtype"),
        (list[torch.dtype], [], "torch.dtype"),
        (type[int], int, "a class"),
        (dict[tuple[int, int], int], {}, "an object with keys of type tuple"),
    ],
    ids=repr,
)
def test_a_type_without_json_is_refused_at_registration(annotation: Any, default: object, reason: str) -> None:
    with pytest.raises(PluginError, match=rf"optimizer 'mine' \(Mine\): the option 'option' has the type {reason}"):
        check_component(component(annotation, default, arbitrary_types_allowed=True), {})


def test_a_type_that_pydantic_does_not_know_is_refused_with_the_option() -> None:
    with pytest.raises(
        TypeError, match=r"Config: the option 'option' has the type <class 'torch.dtype'>, which has no"
    ):
        component(torch.dtype, torch.float32)


@pytest.mark.slow
def test_sets_are_written_in_the_same_order_by_every_process() -> None:
    code = (
        "import gptzoo\n"
        "class Config(gptzoo.Optimizer.Config):\n"
        "    lr: float = 0.1\n"
        "    names: frozenset[str] = frozenset('abcdefgh')\n"
        "Mine = type('Mine', (gptzoo.Optimizer,), {'name': 'mine', 'Config': Config})\n"
        "print(Mine.Config().model_dump_json())"
    )
    texts = {
        subprocess.run(
            [sys.executable, "-c", code], env={**os.environ, "PYTHONHASHSEED": seed}, capture_output=True, check=True
        ).stdout
        for seed in ("1", "2", "3")
    }
    assert texts == {b'{"type":"mine","lr":0.1,"names":["a","b","c","d","e","f","g","h"]}\n'}


def test_python_objects_in_a_spec_are_converted(fresh_registry: registry.Registry) -> None:
    fields: dict[str, Any] = {
        f"option_{index}": (annotation, value) for index, (annotation, value, _) in enumerate(FORMS)
    }
    config = create_model("Config", __base__=gptzoo.Optimizer.Config, lr=(float, 0.1), **fields)
    admit(type("Mine", (gptzoo.Optimizer,), {"name": "mine", "Config": config}))
    model = {"context_length": 8, "d_model": 8, "n_layers": 1, "n_heads": 1}
    options = {name: value for name, (_, value) in fields.items()}
    spec = gptzoo.load_run_spec({"model": model, "steps": 1, "optimizer": {"type": "mine", **options}})
    assert {name: getattr(spec.optimizer, name) for name in options} == options
    assert gptzoo.load_run_spec(spec.resolved()) == spec
    changed = gptzoo.load_run_spec(spec.resolved(), ["optimizer.option_0=[0.3,0.4]", "optimizer.option_6=other"])
    assert (changed.optimizer.option_0, changed.optimizer.option_6) == ((0.3, 0.4), Path("other"))
    with pytest.raises(SpecError, match="a spec is JSON and cannot contain a complex"):
        gptzoo.load_run_spec({"model": model, "steps": 1, "optimizer": {"type": "mine", "lr": 1j}})


class Opaque:
    """A type that reads any text, and does not write the text that it has read."""

    @classmethod
    def __get_pydantic_core_schema__(cls, source: object, handler: object) -> Any:
        from pydantic_core import core_schema

        return core_schema.no_info_plain_validator_function(
            lambda value: cls(),
            serialization=core_schema.plain_serializer_function_ser_schema(lambda value: [id(value)]),
        )


def test_the_kit_finds_an_option_that_is_not_read_back() -> None:
    with pytest.raises(Failed, match=r"option 'option' was .*Opaque"):
        check_serialization(put_under_test(component(Opaque, Opaque()), {}))


def test_a_run_that_could_not_be_resumed_is_refused_before_it_starts(
    fresh_registry: registry.Registry, tmp_path: Path
) -> None:
    admit(component(Opaque, Opaque()))
    model = {"context_length": 8, "d_model": 8, "n_layers": 1, "n_heads": 1}
    with pytest.raises(SpecError, match=r"\$\.optimizer\.option: .* when it is read back from JSON"):
        gptzoo.train({"model": model, "steps": 1, "optimizer": "mine"}, tmp_path / "run", quiet=True)
    assert not (tmp_path / "run" / "checkpoints").exists()
