"""gptzoo components: what is registered, and what one of them takes."""

from __future__ import annotations

import json
from typing import Any

import click

from gptzoo.cli.options import complete_kind, complete_name, json_option, plugin_option


@click.command()
@click.argument("kind", required=False, shell_complete=complete_kind)
@click.argument("name", required=False, shell_complete=complete_name)
@json_option
@plugin_option
def components(kind: str | None, name: str | None, as_json: bool) -> None:
    """List the components that are registered, those of one KIND, or all about the one of this KIND and NAME."""
    from gptzoo.docgen.describe import describe, find, summarise

    found = find(kind, name)
    if name is not None:
        one = describe(found[0])
        click.echo(json.dumps(one, indent=2)) if as_json else _print_one(one)
        return
    rows = [summarise(component) for component in found]
    click.echo(json.dumps(rows, indent=2)) if as_json else _print_list(rows)


def _print_list(rows: list[dict[str, str]]) -> None:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for column in ("kind", "name", "from", ""):
        table.add_column(column, no_wrap=bool(column))
    before = ""
    for row in rows:
        kind = "" if row["kind"] == before else row["kind"]
        before = row["kind"]
        table.add_row(Text(kind, "dim"), Text(row["name"], "bold"), Text(row["origin"], "dim"), Text(row["summary"]))
    _console().print(table)


def _console() -> Any:
    """As wide as the terminal; wider than a narrow one, which wraps lines better than columns of a letter read."""
    from rich.console import Console

    console = Console(highlight=False)
    console.width = max(console.width, 72)
    return console


def _print_one(one: dict[str, Any]) -> None:
    from rich.table import Table
    from rich.text import Text

    from gptzoo.docgen.describe import default_in_words

    console = _console()
    console.print(Text.assemble((one["name"], "bold"), f"  {one['kind']}, from {one['origin']}"))
    console.print(Text(f"\n{one['documentation']}"))
    for label in ("paper", "requires", "supports"):
        value = one[label] if isinstance(one[label], str) else ", ".join(one[label])
        if value:
            console.print(Text.assemble((f"\n{label}: ", "dim"), value), end="")
    console.print()
    if one["options"]:
        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
        for column in ("option", "type", "default", ""):
            table.add_column(column)
        for option in one["options"]:
            row = (option["type"], default_in_words(option), option["description"])
            table.add_row(Text(option["name"], "bold"), *map(Text, row))
        console.print(table)
        console.print()
    console.print(Text(json.dumps({one["kind"]: one["example"]}, ensure_ascii=False), "cyan"), soft_wrap=True)
