"""The kit finds what is right at toy sizes and wrong beyond them, and passes the right component beside it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from testing.broken_at_size import TABLE, Entry

import gptzoo
import gptzoo.testing
from gptzoo.testing.component_under_test import MODEL_KINDS

MAX_SLOW = 4
TAKE_LONG = ("SlotEight", "CountedSteps")  # they are right in nearly all cases


def options_of(component: type, folder: Path) -> dict[str, object]:
    """Return the options that a component needs: those that read files get a small one."""
    if not issubclass(component, gptzoo.Component) or "path" not in component.Config.model_fields:
        return {}
    file = folder / "corpus"
    file.write_text("".join(f'{{"text": "line {index}"}}\n' for index in range(50)))
    return {"path": str(file)}


def wrong_id(entry: Entry) -> str:
    return f"{entry.wrong.kind}-{entry.wrong.__name__}-{entry.property}"


def right_cases() -> list[object]:
    """Return each right component with the properties that its wrong versions violate."""
    properties: dict[Any, set[str]] = {}
    for entry in TABLE:
        properties.setdefault(entry.right, set()).add(entry.property)
    return [
        pytest.param(right, name, id=f"{right.kind}-{right.__name__}-{name}", marks=marks_of_right(right, name))
        for right, names in properties.items()
        for name in sorted(names)
    ]


def marks(name: str) -> list[pytest.MarkDecorator]:
    return [pytest.mark.slow] if any(entry.slow and entry.property == name for entry in TABLE) else []


def marks_of_wrong(entry: Entry) -> list[pytest.MarkDecorator]:
    """Return the marks of a wrong component. The quick tests have one for each property."""
    first = next(e for e in TABLE if e.property == entry.property and e.wrong.__name__ not in TAKE_LONG)
    return [] if entry is first and not marks(entry.property) else [pytest.mark.slow]


def marks_of_right(right: Any, name: str) -> list[pytest.MarkDecorator]:
    """Return the marks of a right component. One that is part of a model passes only after all cases."""
    return [pytest.mark.slow] if right.kind in MODEL_KINDS else marks(name)


@pytest.mark.parametrize(
    "entry", [pytest.param(entry, id=wrong_id(entry), marks=marks_of_wrong(entry)) for entry in TABLE]
)
def test_wrong_component_is_caught_by(entry: Entry, tmp_path: Path) -> None:
    (verdict,) = gptzoo.testing.check(entry.wrong, options_of(entry.wrong, tmp_path), only=[entry.property])
    assert verdict.outcome == "failed", verdict.text


@pytest.mark.parametrize(("right", "name"), right_cases())
def test_right_component_passes(right: type, name: str, tmp_path: Path) -> None:
    (verdict,) = gptzoo.testing.check(right, options_of(right, tmp_path), only=[name])
    assert verdict.outcome == "passed", verdict.text


def test_every_kind_has_wrong_components_and_few_of_them_need_the_slow_properties() -> None:
    kinds = {entry.wrong.kind for entry in TABLE}
    parts_of_a_model = {"activation", "architecture", "attention", "ffn", "norm", "norm_layer", "positional"}
    others = {"batching", "corpus", "logits_processor", "optimizer", "schedule", "strategy", "tokenizer"}
    assert kinds == parts_of_a_model | others
    assert len(TABLE) >= 44
    assert sum(bool(entry.slow) for entry in TABLE) <= MAX_SLOW


@pytest.fixture(autouse=True)
def _builtin_registry(fresh_registry: object) -> None:
    """Use only the built-in components, whatever plugins are installed."""
