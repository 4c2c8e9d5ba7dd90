"""`gptzoo new-plugin`: create a plugin package with one working component."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from gptzoo.cli.options import json_option
from gptzoo.scaffold.kinds import TEMPLATES

if TYPE_CHECKING:
    from gptzoo.scaffold.package import Package

_KIND_LIST = "\b\nKinds, each with the component that its package starts with:\n" + "\n".join(
    f"  {kind:<17} {template.summary}" for kind, template in TEMPLATES.items()
)


def _complete_kind(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    return [kind for kind in TEMPLATES if kind.startswith(incomplete)]


@click.command("new-plugin", epilog=_KIND_LIST)
@click.argument("name")
@click.option(
    "--kind", required=True, shell_complete=_complete_kind, help="Kind of the component, from the list below."
)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default=Path(),
    metavar="DIR",
    help="Parent folder of the new folder gptzoo-NAME (default: the current folder).",
)
@json_option
def new_plugin(name: str, kind: str, out: Path, as_json: bool) -> None:
    """Create the plugin package gptzoo-NAME with one working component of a kind.

    Specs use the component by NAME with underscores instead of hyphens. The package installs, passes its own tests and
    trains as it is; replace the body of its class with your idea. Existing files are never overwritten.
    """
    from gptzoo.scaffold.package import new_package

    package = new_package(name, kind, out)
    if as_json:
        click.echo(json.dumps(_as_dict(package), indent=2))
        return
    click.echo(f"{package.folder}: {kind} {package.type!r}, {package.template.summary}\n")
    click.echo("\n".join(f"  {command}" for command in package.next_commands))


def _as_dict(package: Package) -> dict[str, object]:
    return {
        "folder": str(package.folder),
        "distribution": package.distribution,
        "module": package.module,
        "kind": package.kind,
        "type": package.type,
        "class": package.class_name,
        "files": list(package.files),
        "next": package.next_commands,
    }
