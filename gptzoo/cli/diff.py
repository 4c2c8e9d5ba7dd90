"""gptzoo diff: what differs between two specs, and between the models that they build."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gptzoo.cli.options import json_option, plugin_option, set_option

if TYPE_CHECKING:
    from gptzoo.inspection.spec_diff import Difference
    from gptzoo.spec.json_diff import Change


@click.command()
@click.argument("a", type=click.Path(path_type=Path))
@click.argument("b", type=click.Path(path_type=Path), required=False)
@click.option(
    "--values/--no-values",
    default=None,
    help="Compare initial values too; left out, they are if both models together are below 1 GiB.",
)
@json_option
@set_option
@plugin_option
def diff(a: Path, b: Path | None, values: bool | None, as_json: bool, overrides: tuple[str, ...]) -> None:
    """Compare two specs and the models that they build: fields, modules, parameters, initial values, updates, costs.

    A and B are files of models or of runs, or the folders of either. --set changes B, or, without B, a copy of A:

        gptzoo diff tiny.json --set attention=naive
    """
    from gptzoo.cli.reading import read_spec
    from gptzoo.errors import InputError
    from gptzoo.inspection.spec_diff import compare

    spec_a, spec_b = read_spec(a), read_spec(b or a, overrides)
    if type(spec_a) is not type(spec_b):
        raise InputError(f"{a} and {b}: one describes a run and the other a model; give two of a kind")
    found = compare(spec_a, spec_b, values=values)
    if as_json:
        click.echo(json.dumps(found.as_dict(), indent=2))
    else:
        _print(found)


def _print(found: Difference) -> None:
    from rich.console import Console
    from rich.text import Text

    console = Console(highlight=False)
    compared = found.initial_values
    if compared.skipped:
        told = f"not compared: {compared.skipped}; --values compares them"
    else:
        told = f"{compared.compared - len(compared.differ)} of {compared.compared} shared tensors are equal"
    if found.equal:
        console.print(Text(f"no difference  (initial values: {told})"))
        return
    sections = ("spec", found.spec), ("modules", found.modules), ("parameters", found.parameters)
    for title, changes in (*sections, ("costs", found.costs)):
        _print_section(console, title, _rows(changes))
    _print_section(console, "optimizer", _gathered(found.optimizer))
    console.print(Text.assemble(("initial values", "bold"), f"  {told}"))
    for name, count in _grouped((name, None) for name in compared.differ):
        console.print(Text(f"  differ: {_times(name[0], count)}"), soft_wrap=True)


def _print_section(console: Any, title: str, rows: list[tuple[str, str, str]]) -> None:
    from rich.table import Table
    from rich.text import Text

    if not rows:
        console.print(Text.assemble((title, "bold"), "  the same"))
        return
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 2), header_style="dim")
    for column in ("", "a", "b"):
        table.add_column(column, overflow="fold")
    for name, before, after in rows:
        table.add_row(Text(name), Text(before, "red"), Text(after, "green"))
    console.print(Text(title, "bold"))
    console.print(table)


def _rows(changes: Iterable[Change]) -> list[tuple[str, str, str]]:
    """Name, a and b; what repeats from layer to layer is one row."""
    grouped = _grouped((change.name, (_shown(change.a), _shown(change.b))) for change in changes)
    return [(_times(name, count), *shown) for (name, shown), count in grouped]


def _gathered(changes: Iterable[Change]) -> list[tuple[str, str, str]]:
    """Name, a and b; all names of which the same is said are one row."""
    names: dict[tuple[str, str], list[str]] = {}
    for change in changes:
        names.setdefault((_shown(change.a), _shown(change.b)), []).append(change.name)
    return [(_and_more(several), *shown) for shown, several in names.items()]


def _and_more(names: list[str]) -> str:
    return names[0] + (f" and {len(names) - 1} more" if len(names) > 1 else "")


def _grouped(named: Iterable[tuple[str, Any]]) -> Iterator[tuple[tuple[str, Any], int]]:
    """Names with what is said of them, `blocks.0` and `blocks.1` as one `blocks.*`, and how often each comes."""
    counts: dict[tuple[str, Any], list[str]] = {}
    for name, said in named:
        counts.setdefault((re.sub(r"\.\d+(?=\.|$)", ".*", name), said), []).append(name)
    for (pattern, said), names in counts.items():
        yield (names[0] if len(names) == 1 else pattern, said), len(names)


def _times(name: str, count: int) -> str:
    return name if count == 1 else f"{name}  ({count} ×)"


def _shown(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    if isinstance(value, dict):
        return ", ".join(f"{name}={item}" for name, item in value.items())
    return value if isinstance(value, str) else json.dumps(value)
