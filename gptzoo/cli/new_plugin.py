"""gptzoo new-plugin: a package of one's own, to start from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from gptzoo.cli.options import json_option
from gptzoo.scaffold.kinds import TEMPLATES

if TYPE_CHECKING:
    from gptzoo.scaffold.package import Package

_KINDS = "\b\nKinds, and the component that each starts with:\n" + "\n".join(
    f"  {kind:<17} {template.idea}" for kind, template in TEMPLATES.items()
)


def _complete(ctx: click.Context, param: click.Parameter, begun: str) -> list[str]:
    return [kind for kind in TEMPLATES if kind.startswith(begun)]


@click.command("new-plugin", epilog=_KINDS)
@click.argument("name")
@click.option("--kind", required=True, shell_complete=_complete, help="What the component is; see below.")
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default=Path(),
    metavar="DIR",
    help="Where to put the folder gptzoo-NAME; left out, here.",
)
@json_option
def new_plugin(name: str, kind: str, out: Path, as_json: bool) -> None:
    """Write a package gptzoo-NAME with one working component, in specs called NAME with underscores.

    It installs, passes its own tests and trains as it is; then put your idea into its class. Nothing is overwritten.
    """
    from gptzoo.scaffold.package import new_package

    package = new_package(name, kind, out)
    if as_json:
        click.echo(json.dumps(_as_data(package), indent=2))
        return
    click.echo(f"{package.folder}: {package.template.idea}, as {kind} {package.type!r}\n")
    click.echo("\n".join(f"  {command}" for command in package.next_commands))


def _as_data(package: Package) -> dict[str, object]:
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
