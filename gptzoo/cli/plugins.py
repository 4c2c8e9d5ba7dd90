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
    from rich.text import Text

    from gptzoo.terminal.text_table import plain_console, plain_table

    console = plain_console()
    described = [
        *((plugin, "bold", _names_by_kind(plugin)) for plugin in report["plugins"]),
        *((plugin, "bold red", {"not loaded": plugin["reason"]}) for plugin in report["quarantined"]),
        *((plugin, "dim", {"": "disabled by GPTZOO_PLUGINS"}) for plugin in report["disabled"]),
    ]
    if not console.is_terminal:
        table = plain_table("plugin", "package", "components")
        for plugin, _, items in described:
            text = "; ".join(f"{name}: {of}" if name else of for name, of in items.items())
            table.add_row(plugin["plugin"], _package(plugin), text)
        console.print(table)
        return
    for plugin, style, items in described:
        console.print(Text.assemble((plugin["plugin"], style), f"  {_package(plugin)}"))
        table = plain_table("", "", header=False, indent=2)
        for name, text in items.items():
            table.add_row(Text(name, "dim"), text)
        console.print(table)


def _names_by_kind(plugin: dict[str, Any]) -> dict[str, str]:
    names: dict[str, list[str]] = {}
    for component in plugin["registers"]:
        names.setdefault(component["kind"], []).append(component["name"])
    return {kind: ", ".join(of_kind) for kind, of_kind in names.items()}


def _package(plugin: dict[str, Any]) -> str:
    return f"{plugin['distribution']} {plugin['version']}".strip()
