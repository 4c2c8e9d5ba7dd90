"""gptzoo check: is a component what its kind promises?"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from gptzoo.cli.options import json_option, plugin_option

if TYPE_CHECKING:
    from gptzoo.testing import Verdict


@click.command()
@click.argument("component", metavar="KIND:TYPE")
@click.option("--set", "overrides", metavar="OPTION=VALUE", multiple=True, help="Set an option. May be given again.")
@click.option("--only", metavar="PROPERTY", multiple=True, help="Check this property alone. May be given again.")
@click.option("--slow", is_flag=True, help="Check also what takes long: compiling, several processes, every partner.")
@json_option
@plugin_option
@click.pass_context
def check(
    ctx: click.Context, component: str, overrides: tuple[str, ...], only: tuple[str, ...], slow: bool, as_json: bool
) -> None:
    """Check that a component keeps what its kind promises, and show a counterexample where it does not.

    Leaves with 0 if nothing was found, and with 1 if something was.
    """
    from gptzoo.spec.overrides import apply_overrides
    from gptzoo.testing.runner import check as verdicts_on
    from gptzoo.testing.runner import find
    from gptzoo.utils.forking import allow_autograd_in_forks

    allow_autograd_in_forks()  # what is checked in several processes is; nothing here is for a GPU
    found = find(component)
    options: dict[str, Any] = {}
    apply_overrides(found.Config, options, overrides)
    verdicts = verdicts_on(found, options, only=only, slow=slow)
    if as_json:
        click.echo(json.dumps([verdict.as_dict() for verdict in verdicts], indent=2))
    else:
        _print(component, verdicts)
    ctx.exit(any(verdict.outcome == "failed" for verdict in verdicts))


def _print(component: str, verdicts: list[Verdict]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from gptzoo.testing import properties_of

    console = Console(highlight=False)
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), show_header=False)
    for column in ("property", "outcome", "text"):
        table.add_column(column, overflow="fold")
    words = {"passed": ("passed", "green"), "failed": ("FAILED", "bold red"), "skipped": ("skipped", "dim")}
    promises = {one.name: one.promise for one in properties_of(component.partition(":")[0])}
    for verdict in verdicts:
        text = Text(verdict.text, "" if verdict.outcome == "failed" else "dim")
        if verdict.outcome == "failed":
            text.append(f"\nThe promise: {promises[verdict.property]}", "dim")
        table.add_row(Text(verdict.property, "bold"), Text(*words[verdict.outcome]), text)
    console.print(table)
    counts = {outcome: sum(verdict.outcome == outcome for verdict in verdicts) for outcome in words}
    told = [f"{number} {outcome}" for outcome, number in counts.items() if number]
    console.print(f"\n{component}: {', '.join(told)}")
