"""`gptzoo diff`: the differences between two specs and the models they build."""

from __future__ import annotations

import json
import re
from collections.abc import Hashable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import click

from gptzoo.cli.options import json_option, plugin_option, set_option
from gptzoo.utils.json_text import to_json

if TYPE_CHECKING:
    from rich.console import Console

    from gptzoo.inspection.spec_diff import InitialValues, SpecDiff
    from gptzoo.utils.json_diff import Change

Value = TypeVar("Value", bound=Hashable)


@click.command()
@click.argument("a", type=click.Path(path_type=Path))
@click.argument("b", type=click.Path(path_type=Path), required=False)
@click.option(
    "--values/--no-values",
    default=None,
    help="Also compare the initial values of the weights (default: if both models together take at most 1 GiB).",
)
@json_option
@set_option
@plugin_option
def diff(a: Path, b: Path | None, values: bool | None, as_json: bool, overrides: tuple[str, ...]) -> None:
    """Compare two specs and the models they build: fields, modules, parameters, initial values, optimizer, costs.

    A and B are model specs or run specs, as files or as the folders of models or runs. --set changes B. Without B, A is
    compared with a changed copy of itself:

        gptzoo diff tiny.json --set attention=naive
    """
    from gptzoo.cli.inputs import read_spec
    from gptzoo.errors import InputError
    from gptzoo.inspection.spec_diff import compare_specs

    spec_a, spec_b = read_spec(a), read_spec(b or a, overrides)
    if type(spec_a) is not type(spec_b):
        raise InputError(f"{a} and {b}: one is a run spec and the other a model spec; give two of the same kind")
    diff_result = compare_specs(spec_a, spec_b, values=values)
    if as_json:
        click.echo(to_json(diff_result.as_dict(), indent=2))
    else:
        _print(diff_result)


def _print(diff_result: SpecDiff) -> None:
    from rich.text import Text

    from gptzoo.terminal.text_table import plain_console

    console = plain_console()
    summary = _initial_values_summary(diff_result.initial_values)
    if diff_result.equal:
        console.print(Text(f"no difference  (initial values: {summary})"))
        return
    for title, changes in (
        ("spec", diff_result.spec),
        ("modules", diff_result.modules),
        ("parameters", diff_result.parameters),
        ("costs", diff_result.costs),
    ):
        _print_section(console, title, _rows(changes))
    _print_section(console, "optimizer", _rows_by_value(diff_result.optimizer))
    console.print(Text.assemble(("initial values", "bold"), f"  {summary}"))
    for name, _, count in _merge_layers((name, None) for name in diff_result.initial_values.differ):
        console.print(Text(f"  differ: {_with_count(name, count)}"), soft_wrap=True)


def _initial_values_summary(values: InitialValues) -> str:
    if values.skipped:
        return f"not compared: {values.skipped}; use --values to compare them"
    return f"{values.compared - len(values.differ)} of {values.compared} shared tensors are equal"


def _print_section(console: Console, title: str, rows: list[tuple[str, str, str]]) -> None:
    from rich.text import Text

    from gptzoo.terminal.text_table import plain_table

    if not rows:
        console.print(Text.assemble((title, "bold"), "  the same"))
        return
    table = plain_table("", "a", "b", indent=2)
    for name, value_a, value_b in rows:
        table.add_row(Text(name), Text(value_a, "red"), Text(value_b, "green"))
    console.print(Text(title, "bold"))
    console.print(table)


def _rows(changes: Iterable[Change]) -> list[tuple[str, str, str]]:
    """Return rows of name, a and b. Equal changes in several layers share a row."""
    merged = _merge_layers((change.name, (_format(change.a), _format(change.b))) for change in changes)
    return [(_with_count(name, count), *values) for name, values, count in merged]


def _rows_by_value(changes: Iterable[Change]) -> list[tuple[str, str, str]]:
    """Return rows of name, a and b. All names with the same values share a row."""
    names: dict[tuple[str, str], list[str]] = {}
    for change in changes:
        names.setdefault((_format(change.a), _format(change.b)), []).append(change.name)
    return [(_first_and_count(group), *values) for values, group in names.items()]


def _first_and_count(names: list[str]) -> str:
    return names[0] + (f" and {len(names) - 1} more" if len(names) > 1 else "")


def _merge_layers(items: Iterable[tuple[str, Value]]) -> Iterator[tuple[str, Value, int]]:
    """Merge names with equal values that differ in layer numbers only.

    Yield `(name, value, count)`. The merged name of `blocks.0` and `blocks.1` is `blocks.*`.
    """
    merged: dict[tuple[str, Value], list[str]] = {}
    for name, value in items:
        merged.setdefault((re.sub(r"\.\d+(?=\.|$)", ".*", name), value), []).append(name)
    for (pattern, value), names in merged.items():
        yield names[0] if len(names) == 1 else pattern, value, len(names)


def _with_count(name: str, count: int) -> str:
    return name if count == 1 else f"{name}  ({count} ×)"


def _format(value: object) -> str:
    if value is None:
        return "–"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    if isinstance(value, dict):
        return ", ".join(f"{name}={item}" for name, item in value.items())
    return value if isinstance(value, str) else json.dumps(value)
