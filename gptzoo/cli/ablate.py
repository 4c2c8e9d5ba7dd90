"""gptzoo ablate: variants of a run, each with several seeds, compared."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gptzoo.cli.options import json_option, plugin_option, set_option

if TYPE_CHECKING:
    from gptzoo.ablation.outcome import Outcome

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
    from gptzoo.ablation.display import Watcher, plan_as_dict, print_outcome, print_plan
    from gptzoo.ablation.folder import refuse_another
    from gptzoo.ablation.plan import make_plan
    from gptzoo.spec.files import load_ablation_spec

    if executor is not None:
        overrides = (*overrides, f"executor={executor}")
    spec = load_ablation_spec(ablation, overrides)
    folder = out or Path("ablations") / spec.name
    if dry_run:
        refuse_another(folder, spec)
        plan = make_plan(spec, folder)
        if as_json:
            click.echo(json.dumps(plan_as_dict(plan), indent=2))
        else:
            print_plan(plan, folder)
        return
    with Watcher() as watcher:
        outcome = run_ablation(
            spec,
            folder,
            retry_failed=retry_failed,
            tell=lambda plan: print_plan(plan, folder, to_stderr=True),
            watch=watcher,
        )
    _print(outcome, as_json, print_outcome)
    ctx.exit(_exit_code(outcome))


@ablate.command()
@click.argument("folder", type=click.Path(path_type=Path))
@json_option
@click.pass_context
def status(ctx: click.Context, folder: Path, as_json: bool) -> None:
    """Say how the ablation in FOLDER is doing, whether it runs or not.

    Leaves with 0 unless trials have failed.
    """
    from gptzoo.ablation.display import print_status
    from gptzoo.ablation.folder import read_outcome

    outcome = read_outcome(folder)
    _print(outcome, as_json, print_status)
    ctx.exit(_exit_code(outcome))


def _print(outcome: Outcome, as_json: bool, show: Any) -> None:
    from gptzoo.ablation.display import outcome_as_dict

    if as_json:
        click.echo(json.dumps(outcome_as_dict(outcome), indent=2))
    else:
        show(outcome)


def _exit_code(outcome: Outcome) -> int:
    return _FAILED if any(trial.state == "failed" for trial in outcome.trials) else 0
