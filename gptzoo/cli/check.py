"""`gptzoo check`: test a component against the contract of its kind."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from gptzoo.cli.options import json_option, plugin_option
from gptzoo.utils.json_text import to_json

if TYPE_CHECKING:
    from gptzoo.testing import Verdict


@click.command()
@click.argument("component", metavar="KIND:TYPE")
@click.option(
    "--set", "overrides", metavar="OPTION=VALUE", multiple=True, help="Set an option of the component. Repeatable."
)
@click.option("--only", metavar="PROPERTY", multiple=True, help="Check only this property. Repeatable.")
@click.option(
    "--slow",
    is_flag=True,
    help="Also check slow properties, such as torch.compile, two ranks, and every pairing with other components, and "
    "try more sizes and options.",
)
@json_option
@plugin_option
@click.pass_context
def check(
    ctx: click.Context, component: str, overrides: tuple[str, ...], only: tuple[str, ...], slow: bool, as_json: bool
) -> None:
    """Check that a component keeps the promises of its kind, and show a counterexample where it does not.

    Exit codes: 0 if no property failed, 1 if a property failed, 2 for a wrong argument.
    """
    from gptzoo.spec.overrides import apply_overrides
    from gptzoo.terminal.text_table import plain_console, print_lines
    from gptzoo.testing.runner import check as check_component
    from gptzoo.testing.runner import find_component, not_covered
    from gptzoo.utils.forking import allow_autograd_in_forks

    allow_autograd_in_forks()  # some properties run in forked processes; none uses a GPU
    component_class = find_component(component)
    options: dict[str, Any] = {}
    apply_overrides(getattr(component_class, "Config", None), options, overrides)  # a strategy has arguments instead
    verdicts = check_component(component_class, options, only=only, slow=slow)
    if as_json:
        click.echo(to_json([verdict.as_dict() for verdict in verdicts], indent=2))
    else:
        _print(component, verdicts)
        if not only:
            print_lines(plain_console(), [not_covered(component_class, options, slow=slow)])
    ctx.exit(any(verdict.outcome == "failed" for verdict in verdicts))


def _print(component: str, verdicts: list[Verdict]) -> None:
    from rich.text import Text

    from gptzoo.terminal.text_table import plain_console, plain_table
    from gptzoo.testing import properties_of

    console = plain_console()
    table = plain_table("property", "outcome", "text", header=False)
    outcomes = {"passed": ("passed", "green"), "failed": ("FAILED", "bold red"), "skipped": ("skipped", "dim")}
    promises = {prop.name: prop.promise for prop in properties_of(component.partition(":")[0])}
    for verdict in verdicts:
        text = Text(verdict.text, "" if verdict.outcome == "failed" else "dim")
        if verdict.outcome == "failed":
            text.append(f"\nExpected: {promises[verdict.property]}", "dim")
        table.add_row(Text(verdict.property, "bold"), Text(*outcomes[verdict.outcome]), text)
    console.print(table)
    counts = {outcome: sum(verdict.outcome == outcome for verdict in verdicts) for outcome in outcomes}
    summary = ", ".join(f"{count} {outcome}" for outcome, count in counts.items() if count)
    console.print(f"\n{component}: {summary}")
