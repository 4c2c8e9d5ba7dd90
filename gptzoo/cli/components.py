"""`gptzoo components`: the registered components, and the options of one of them."""

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
    """Print the components under the headings of their kinds, or in a pipe with one line each."""
    from rich.text import Text

    from gptzoo.terminal.text_table import plain_console, plain_table

    console = plain_console()
    if not console.is_terminal:
        table = plain_table("kind", "name", "package", "description")
        for row in rows:
            table.add_row(row["kind"], row["name"], row["origin"], row["summary"])
        console.print(table)
        return
    for kind in dict.fromkeys(row["kind"] for row in rows):
        table = plain_table("", "", header=False, indent=2)
        for row in rows:
            if row["kind"] == kind:
                package = "" if row["origin"].split()[0] == "gptzoo" else f"  ({row['origin'].split()[0]})"
                table.add_row(Text(row["name"], "bold"), Text.assemble(row["summary"], (package, "dim")))
        console.print(Text(kind, "dim"))
        console.print(table)


def _print_description(description: dict[str, Any]) -> None:
    from rich.text import Text

    from gptzoo.docgen.describe import format_default
    from gptzoo.terminal.text_table import plain_console

    console = plain_console()

    def show(*texts: str | Text | tuple[str, str], indent: int = 0) -> None:
        for line in Text.assemble(*texts).wrap(console, console.width - indent):
            line.rstrip()
            console.print(Text.assemble(" " * indent, line), soft_wrap=True)

    show((description["name"], "bold"), f"  {description['kind']}, from {description['origin']}")
    for paragraph in _paragraphs(description["documentation"]):
        console.print()
        show(paragraph)
    console.print()
    for label in ("paper", "requires", "supports"):
        value = description[label] if isinstance(description[label], str) else ", ".join(description[label])
        if value:
            show((f"{label}: ", "dim"), value)
    for option in description["options"]:
        default = format_default(option)
        default = default if default == "required" else f"default: {default}"
        console.print()
        show((option["name"], "bold"), f"  {option['type']}, {default}")
        show(" ".join(option["description"].split()), indent=4)
    console.print()
    example = json.dumps({description["kind"]: description["example"]}, ensure_ascii=False)
    console.print(Text(example, "cyan"), soft_wrap=True)


def _paragraphs(documentation: str) -> list[str]:
    """Return the paragraphs of a docstring. Only indented lines and lists keep their line breaks."""
    paragraphs = []
    for paragraph in documentation.split("\n\n"):
        lines = paragraph.splitlines()
        keeps_breaks = any(line.startswith((" ", "- ", "* ", "|")) for line in lines)
        paragraphs.append(paragraph if keeps_breaks else " ".join(lines))
    return paragraphs
