"""gptzoo plugins: who brought which components, and which plugins are not in use and why."""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING, Any

import click

from gptzoo.cli.options import json_option, plugin_option

if TYPE_CHECKING:
    from gptzoo.registry import Registry


@click.command()
@json_option
@plugin_option
def plugins(as_json: bool) -> None:
    """List every plugin: where it is from and what it registers; those that are broken, with the reason.

    A broken plugin is no error of this command; it is one of the spec that needs it.
    """
    from gptzoo import registry

    report = _report(registry.current())
    if as_json:
        click.echo(json.dumps(report, indent=2))
    else:
        _print(report)


def _report(registry: Registry) -> dict[str, Any]:
    def registers(plugin: Any) -> list[dict[str, str]]:
        return [{"kind": part.kind, "name": part.name} for part in registry.components_of(plugin)]

    return {
        "plugins": [{**dataclasses.asdict(origin), "registers": registers(origin)} for origin in registry.plugins],
        "quarantined": [{**dataclasses.asdict(bad.origin), "reason": bad.reason} for bad in registry.quarantined],
        "disabled": [dataclasses.asdict(origin) for origin in registry.disabled],
    }


def _print(report: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(highlight=False)
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for column in ("plugin", "from", ""):
        table.add_column(column)
    for plugin in report["plugins"]:
        by_kind: dict[str, list[str]] = {}
        for part in plugin["registers"]:
            by_kind.setdefault(part["kind"], []).append(part["name"])
        registers = "\n".join(f"{kind}: {', '.join(names)}" for kind, names in by_kind.items())
        table.add_row(Text(plugin["plugin"], "bold"), Text(_origin(plugin)), Text(registers))
    for plugin in report["quarantined"]:
        table.add_row(Text(plugin["plugin"], "bold red"), Text(_origin(plugin)), Text(f"refused: {plugin['reason']}"))
    for plugin in report["disabled"]:
        table.add_row(Text(plugin["plugin"], "dim"), Text(_origin(plugin)), Text("disabled by GPTZOO_PLUGINS"))
    console.print(table)


def _origin(plugin: dict[str, Any]) -> str:
    return f"{plugin['distribution']} {plugin['version']}".strip()
