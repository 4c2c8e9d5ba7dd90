"""`gptzoo components`: the registered components, and the options of one of them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from gptzoo.cli.options import complete_kind, complete_name, json_option, plugin_option

if TYPE_CHECKING:
    from rich.console import Console

_MIN_WIDTH = 72


@click.command()
@click.argument("kind", required=False, shell_complete=complete_kind)
@click.argument("name", required=False, shell_complete=complete_name)
@json_option
@plugin_option
def components(kind: str | None, name: str | None, as_json: bool) -> None:
    """List the registered components, all or of one KIND, or describe the component NAME."""
    from gptzoo.docgen.describe import describe, select_components, summarise

    selected = select_components(kind, name)
    if name is not None:
        description = describe(selected[0])
        if as_json:
            click.echo(json.dumps(description, indent=2))
        else:
            _print_description(description)
        return
    rows = [summarise(component) for component in selected]
    if as_json:
        click.echo(json.dumps(rows, indent=2))
    else:
        _print_list(rows)


def _print_list(rows: list[dict[str, str]]) -> None:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for column in ("kind", "name", "package"):
        table.add_column(column, no_wrap=True)
    table.add_column("description")
    previous_kind = ""
    for row in rows:
        kind = "" if row["kind"] == previous_kind else row["kind"]
        previous_kind = row["kind"]
        table.add_row(Text(kind, "dim"), Text(row["name"], "bold"), Text(row["origin"], "dim"), Text(row["summary"]))
    _console().print(table)


def _console() -> Console:
    """Return a console of at least 72 columns: a narrower table is harder to read than wrapped lines."""
    from rich.console import Console

    console = Console(highlight=False)
    console.width = max(console.width, _MIN_WIDTH)
    return console


def _print_description(description: dict[str, Any]) -> None:
    from rich.table import Table
    from rich.text import Text

    from gptzoo.docgen.describe import format_default

    console = _console()
    console.print(
        Text.assemble((description["name"], "bold"), f"  {description['kind']}, from {description['origin']}")
    )
    console.print(Text(f"\n{description['documentation']}"))
    for label in ("paper", "requires", "supports"):
        value = description[label] if isinstance(description[label], str) else ", ".join(description[label])
        if value:
            console.print(Text.assemble((f"\n{label}: ", "dim"), value), end="")
    console.print()
    if description["options"]:
        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
        table.add_column("option", no_wrap=True)
        for column in ("type", "default", "description"):
            table.add_column(column)
        for option in description["options"]:
            cells = (option["type"], format_default(option), " ".join(option["description"].split()))
            table.add_row(Text(option["name"], "bold"), *map(Text, cells))
        console.print(table)
        console.print()
    example = json.dumps({description["kind"]: description["example"]}, ensure_ascii=False)
    console.print(Text(example, "cyan"), soft_wrap=True)
