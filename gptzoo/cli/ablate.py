"""gptzoo ablate: variants of a run, each with several seeds, compared."""

from __future__ import annotations

import json
import shlex
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gptzoo.cli.options import json_option, plugin_option, set_option

if TYPE_CHECKING:
    from gptzoo.ablation.records.outcome import Outcome
    from gptzoo.spec.ablation import AblationSpec

_FAILED = 1  # exit code when trials failed


class _ByDefaultRun(click.Group):
    """A group whose command `run` need not be named: `gptzoo ablate ablation.json`."""

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        return super().resolve_command(ctx, args if args[0] in self.commands else ["run", *args])


@click.group(cls=_ByDefaultRun)
def ablate() -> None:
    """Compare variants of a run: gptzoo ablate ablation.json [OPTIONS], which is short for `run`.

    Leaves with 0 if all trials are done, 1 if some failed, 2 if it was refused, 4 if a signal ended it: the same
    command then goes on.
    """


@ablate.command()
@click.argument("ablation", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), help="The folder to work in; left out, ablations/NAME.")
@click.option("--dry-run", is_flag=True, help="Print the plan and run nothing of it.")
@click.option("--executor", metavar="JSON", help="Where trials run, instead of the spec's: local, or an object.")
@click.option("--retry-failed", is_flag=True, help="Try again what was given up.")
@set_option
@json_option
@plugin_option
@click.pass_context
def run(
    ctx: click.Context,
    ablation: Path,
    out: Path | None,
    dry_run: bool,
    executor: str | None,
    retry_failed: bool,
    overrides: tuple[str, ...],
    as_json: bool,
) -> None:
    """Run what ABLATION, a JSON spec, describes, and print what it found.

    What is done already is not done again: more choices or seeds may be added to ABLATION later.
    """
    from gptzoo.ablation.ablate import ablate as run_ablation
    from gptzoo.ablation.design.axes import slug_of
    from gptzoo.ablation.terminal.live_table import Watcher
    from gptzoo.ablation.terminal.plan import print_plan
    from gptzoo.ablation.terminal.tables import plain_console
    from gptzoo.spec.files import load_ablation_spec

    if executor is not None:
        overrides = (*overrides, f"executor={executor}")
    spec = load_ablation_spec(ablation, overrides)
    folder = out or Path("ablations") / slug_of(spec.name)  # a name is no path: it may lead out of here
    if dry_run:
        _dry_run(spec, folder, as_json)
        return
    notes = plain_console(stderr=True)
    with Watcher(notes) as watcher:
        outcome = run_ablation(
            spec,
            folder,
            retry_failed=retry_failed,
            tell=lambda plan: print_plan(plan, folder, None, notes),
            watch=watcher,
        )
    _print(outcome, as_json)
    click.echo(f"as a page with figures: gptzoo report {shlex.quote(str(folder))}", err=True)
    ctx.exit(_exit_code(outcome))


def _dry_run(spec: AblationSpec, folder: Path, as_json: bool) -> None:
    from gptzoo.ablation.planning.folder import refuse_another
    from gptzoo.ablation.planning.forecast import forecast
    from gptzoo.ablation.planning.plan import make_plan
    from gptzoo.ablation.terminal.plan import plan_as_dict, print_plan
    from gptzoo.ablation.terminal.tables import plain_console

    refuse_another(folder, spec)
    with tempfile.TemporaryDirectory() as name:
        plan = make_plan(spec, folder, scratch=Path(name))
        found = forecast(plan, folder, Path(name))
    if as_json:
        click.echo(json.dumps(plan_as_dict(plan, found), indent=2))
    else:
        print_plan(plan, folder, found, plain_console())


@ablate.command()
@click.argument("folder", type=click.Path(path_type=Path))
@json_option
@click.pass_context
def status(ctx: click.Context, folder: Path, as_json: bool) -> None:
    """Say how the ablation in FOLDER is doing, whether it runs or not.

    Leaves with 0 unless trials have failed.
    """
    from gptzoo.ablation.planning.folder import read_outcome

    outcome = read_outcome(folder)
    _print(outcome, as_json)
    ctx.exit(_exit_code(outcome))


def _print(outcome: Outcome, as_json: bool) -> None:
    from gptzoo.ablation.terminal.outcome import outcome_as_dict, print_outcome
    from gptzoo.ablation.terminal.tables import plain_console

    if as_json:
        click.echo(json.dumps(outcome_as_dict(outcome), indent=2))
    else:
        print_outcome(outcome, plain_console())


def _exit_code(outcome: Outcome) -> int:
    failed = any(trial.state == "failed" for trial in outcome.trials)
    in_selection = outcome.selection is not None and outcome.selection.failures()
    return _FAILED if failed or in_selection else 0
