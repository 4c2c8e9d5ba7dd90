"""`gptzoo plugins`: the installed plugins and their components, and the plugins that could not be loaded."""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING, Any

import click

from gptzoo.cli.options import json_option, plugin_option

if TYPE_CHECKING:
    from gptzoo.registry import Origin, Registry


@click.command()
@json_option
@plugin_option
def plugins(as_json: bool) -> None:
    """List the plugins with their packages, their components and any load errors.

    A broken plugin is not an error of this command. It is an error of every spec that uses one of its components.
    """
    from gptzoo import registry

    report = _report(registry.current())
    if as_json:
        click.echo(json.dumps(report, indent=2))
    else:
        _print(report)


def _report(registry: Registry) -> dict[str, Any]:
    def registers(origin: Origin) -> list[dict[str, str]]:
        return [{"kind": part.kind, "name": part.name} for part in registry.components_of(origin)]

    return {
        "plugins": [{**dataclasses.asdict(origin), "registers": registers(origin)} for origin in registry.plugins],
        "quarantined": [{**dataclasses.asdict(bad.origin), "reason": bad.reason} for bad in registry.refused],
        "disabled": [dataclasses.asdict(origin) for origin in registry.disabled],
    }


def _print(report: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(highlight=False)
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for column in ("plugin", "package", "components"):
        table.add_column(column)
    for plugin in report["plugins"]:
        names_by_kind: dict[str, list[str]] = {}
        for component in plugin["registers"]:
            names_by_kind.setdefault(component["kind"], []).append(component["name"])
        components = "\n".join(f"{kind}: {', '.join(names)}" for kind, names in names_by_kind.items())
        table.add_row(Text(plugin["plugin"], "bold"), Text(_package(plugin)), Text(components))
    for plugin in report["quarantined"]:
        reason = Text(f"not loaded: {plugin['reason']}")
        table.add_row(Text(plugin["plugin"], "bold red"), Text(_package(plugin)), reason)
    for plugin in report["disabled"]:
        table.add_row(Text(plugin["plugin"], "dim"), Text(_package(plugin)), Text("disabled by GPTZOO_PLUGINS"))
    console.print(table)


def _package(plugin: dict[str, Any]) -> str:
    return f"{plugin['distribution']} {plugin['version']}".strip()
