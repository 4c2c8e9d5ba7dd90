"""The committed tables and the page are those that the generator writes for the installed libraries."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from gptzoo_optimizers.catalog import FOLDER, LIBRARIES, format_table, parse_table, read_table, tables
from gptzoo_optimizers.generate.inspecting import classes_of, inspect_optimizer, version_of
from gptzoo_optimizers.generate.page import render_page
from gptzoo_optimizers.generate.probing import with_bounds
from gptzoo_optimizers.generate.refusals import REFUSALS

PAGE = Path(__file__).parents[3] / "docs" / "optimizers.md"
NAMES = sorted(name for table in tables() for name in table.signatures)
SAMPLE = random.Random(1).sample(NAMES, 4)


def require_the_version_of_the_table(library: str) -> None:
    if version_of(library) != read_table(library).version:
        pytest.skip(f"the table is of {library} {read_table(library).version}, not of {version_of(library)}")


@pytest.mark.parametrize("library", LIBRARIES)
def test_every_optimizer_of_a_library_is_in_its_table(library: str) -> None:
    require_the_version_of_the_table(library)
    table = read_table(library)
    assert sorted(classes_of(library)) == sorted([*table.signatures, *table.left_out])
    assert {name: reason for name, reason in REFUSALS.items() if name.startswith(library)}.items() <= (
        table.left_out.items()
    )


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in SAMPLE else pytest.mark.slow) for name in NAMES]
)
def test_a_signature_is_that_of_the_installed_library_with_the_bounds_that_it_enforces(name: str) -> None:
    library = name.partition(".")[0]
    require_the_version_of_the_table(library)
    committed = read_table(library).signatures[name]
    found = with_bounds(inspect_optimizer(name, classes_of(library)[name]))
    assert committed.options.keys() <= found.options.keys()  # without options that change nothing
    as_committed = parse_table(library, format_table(read_table(library)))
    for option, expected in committed.options.items():
        assert vars(expected) == vars(as_committed.signatures[name].options[option])
        actual = found.options[option]
        assert [dict(bounds) for bounds in expected.bounds] == [dict(bounds) for bounds in actual.bounds if bounds]
        assert (expected.default, expected.type, expected.description) == (
            actual.default,
            actual.type,
            actual.description,
        )
    ignored = ("options",)
    for attribute in vars(found).keys() - set(ignored):
        assert getattr(committed, attribute) == getattr(found, attribute), attribute


@pytest.mark.parametrize("library", LIBRARIES)
def test_a_table_is_formatted_as_the_generator_does(library: str) -> None:
    assert format_table(read_table(library)) == (FOLDER / f"{library}.json").read_text(encoding="utf-8")


def test_the_page_is_up_to_date() -> None:
    expected = render_page(tables())
    assert PAGE.read_text(encoding="utf-8") == expected, (
        "run python -m gptzoo_optimizers.generate --page docs/optimizers.md"
    )
