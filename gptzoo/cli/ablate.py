"""`gptzoo ablate`: train variants of a run with several seeds each, and compare them."""

from __future__ import annotations

import shlex
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import click

from gptzoo.cli.ladder import report_ladder
from gptzoo.cli.option_sections import CommandGroup
from gptzoo.cli.options import json_option, plugin_option, set_option
from gptzoo.utils.json_text import to_json

if TYPE_CHECKING:
    from gptzoo.ablation.records.outcome import Outcome
    from gptzoo.spec.ablation import AblationSpec

_EXIT_TRIALS_FAILED = 1


class _GroupWithDefaultRun(CommandGroup):
    """A group in which `gptzoo ablate ablation.json` is short for `gptzoo ablate run ablation.json`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        names_command = not args or args[0] in (*self.commands, *ctx.help_option_names)
        return super().parse_args(ctx, args if names_command else ["run", *args])


@click.group(cls=_GroupWithDefaultRun)
def ablate() -> None:
    """Train variants of a run and compare them: gptzoo ablate ablation.json [OPTIONS].

    This is short for gptzoo ablate run ablation.json [OPTIONS].

    Exit codes: 0 if all trials are done; 1 if some failed; 2 if the input is invalid; 4 if a signal stopped the
    ablation. After a signal, run the same command to continue.
    """


@ablate.command()
@click.argument("ablation", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), help="Folder of the ablation (default: ablations/NAME).")
@click.option("--dry-run", is_flag=True, help="Print the plan, with estimated time and memory, and exit.")
@click.option("--executor", metavar="JSON", help="Executor of the trials: a name such as local, or a JSON object.")
@click.option("--retry-failed", is_flag=True, help="Rerun the trials that failed earlier.")
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
    """Run the trials of ABLATION, a spec in JSON, YAML or TOML, and print the results.

    ABLATION is a file, or @NAME for a configuration that comes with gptzoo, such as @positions; @ alone lists them.

    Trials that are done are not run again, so you can add choices and seeds to ABLATION later.
    """
    from gptzoo.ablation.ablate import ablate as run_ablation
    from gptzoo.ablation.design.axes import slug_of
    from gptzoo.ablation.terminal.live_table import LiveTable
    from gptzoo.ablation.terminal.print_plan import print_plan
    from gptzoo.spec.files import load_ablation_spec
    from gptzoo.terminal.text_table import plain_console

    if executor is not None:
        overrides = (*overrides, f"executor={executor}")
    spec = load_ablation_spec(ablation, overrides)
    folder = out or Path("ablations") / slug_of(spec.name)  # the name itself may contain path separators
    if dry_run:
        _dry_run(spec, folder, as_json)
        return
    stderr = plain_console(stderr=True)
    with LiveTable(stderr) as live_table:
        outcome = run_ablation(
            spec,
            folder,
            retry_failed=retry_failed,
            on_plan=lambda plan: print_plan(plan, folder, None, stderr),
            on_progress=live_table,
        )
    _print(outcome, as_json)
    click.echo(f"To write a report with figures: gptzoo report {shlex.quote(str(folder))}", err=True)
    ctx.exit(_exit_code(outcome))


def _dry_run(spec: AblationSpec, folder: Path, as_json: bool) -> None:
    from gptzoo.ablation.ablate import check_harness
    from gptzoo.ablation.planning.folder import check_same_ablation
    from gptzoo.ablation.planning.forecast import forecast
    from gptzoo.ablation.planning.plan import make_plan
    from gptzoo.ablation.terminal.print_plan import plan_as_dict, print_plan
    from gptzoo.terminal.text_table import plain_console

    check_harness(spec)
    check_same_ablation(folder, spec)
    with tempfile.TemporaryDirectory() as name:
        plan = make_plan(spec, folder, scratch=Path(name))
        estimates = forecast(plan, folder, Path(name))
    if as_json:
        click.echo(to_json(plan_as_dict(plan, estimates), indent=2))
    else:
        print_plan(plan, folder, estimates, plain_console())


@ablate.command()
@click.argument("folder", type=click.Path(path_type=Path))
@json_option
@click.pass_context
def status(ctx: click.Context, folder: Path, as_json: bool) -> None:
    """Print the results so far of the ablation or scaling ladder in FOLDER.

    Its trials may still be running. Exit codes: 0, or 1 if trials have failed.
    """
    from gptzoo.ablation.planning.folder import read_outcome
    from gptzoo.ablation.scaling.folder import is_ladder
    from gptzoo.ablation.scaling.read_result import read_ladder

    if is_ladder(folder):
        report_ladder(ctx, read_ladder(folder), as_json=as_json)
        return
    outcome = read_outcome(folder)
    _print(outcome, as_json)
    ctx.exit(_exit_code(outcome))


def _print(outcome: Outcome, as_json: bool) -> None:
    from gptzoo.ablation.terminal.print_outcome import outcome_as_dict, print_outcome
    from gptzoo.terminal.text_table import plain_console

    if as_json:
        click.echo(to_json(outcome_as_dict(outcome), indent=2))
    else:
        print_outcome(outcome, plain_console())


def _exit_code(outcome: Outcome) -> int:
    has_failed_trials = any(trial.state == "failed" for trial in outcome.all_trials)
    has_unscored_trials = any(trial.unscored for trial in outcome.all_trials)
    has_failures_in_selection = outcome.selection is not None and outcome.selection.failures()
    return _EXIT_TRIALS_FAILED if has_failed_trials or has_unscored_trials or has_failures_in_selection else 0
