"""`gptzoo ladder`: train variants at several sizes, fit scaling laws, and extrapolate what a variant saves."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import click

from gptzoo.cli.options import json_option, plugin_option, set_option
from gptzoo.utils.json_text import to_json

if TYPE_CHECKING:
    from gptzoo.ablation.scaling.ladder_spec import LadderSpec
    from gptzoo.ablation.scaling.result import LadderResult

_EXIT_TRIALS_FAILED = 1


@click.command()
@click.argument("spec", metavar="LADDER", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), help="Folder of the ladder (default: ladders/NAME).")
@click.option("--dry-run", is_flag=True, help="Print what the rule makes of each size, with the costs, and exit.")
@click.option("--executor", metavar="JSON", help="Executor of the trials: a name such as local, or a JSON object.")
@click.option("--retry-failed", is_flag=True, help="Rerun the trials that failed earlier.")
@set_option
@json_option
@plugin_option
@click.pass_context
def ladder(
    ctx: click.Context,
    spec: Path,
    out: Path | None,
    dry_run: bool,
    executor: str | None,
    retry_failed: bool,
    overrides: tuple[str, ...],
    as_json: bool,
) -> None:
    """Train the variants of LADDER at several sizes, and print how much compute each saves.

    LADDER is a spec in JSON, YAML or TOML.

    Trials that are done are not run again, so you can add sizes, variants and seeds to LADDER later.

    Exit codes: 0 if all trials are done; 1 if some failed; 2 if the input is invalid; 4 if a signal stopped the
    ladder. After a signal, run the same command to continue.
    """
    from gptzoo.ablation.design.axes import slug_of
    from gptzoo.ablation.scaling.ladder import ladder as run_ladder
    from gptzoo.ablation.scaling.ladder_spec import load_ladder_spec
    from gptzoo.ablation.terminal.live_table import LiveTable
    from gptzoo.ablation.terminal.print_ladder import print_ladder_plan
    from gptzoo.terminal.text_table import plain_console

    if executor is not None:
        overrides = (*overrides, f"executor={executor}")
    loaded = load_ladder_spec(spec, overrides)
    folder = out or Path("ladders") / slug_of(loaded.name)  # the name itself may contain path separators
    if dry_run:
        _dry_run(loaded, folder, as_json)
        return
    stderr = plain_console(stderr=True)
    with LiveTable(stderr) as live_table:
        result = run_ladder(
            loaded,
            folder,
            retry_failed=retry_failed,
            on_plan=lambda ladder_plan, plan: print_ladder_plan(ladder_plan, plan, folder, None, stderr),
            on_progress=live_table,
        )
    report_ladder(ctx, result, as_json=as_json)


def report_ladder(ctx: click.Context, result: LadderResult, *, as_json: bool) -> None:
    """Print the result of a ladder, and exit with 1 if trials have failed."""
    from gptzoo.ablation.terminal.print_ladder import print_ladder
    from gptzoo.terminal.text_table import plain_console

    if as_json:
        click.echo(to_json(result.model_dump(mode="json"), indent=2))
    else:
        print_ladder(result, plain_console())
    ctx.exit(_EXIT_TRIALS_FAILED if result.n_failed else 0)


def _dry_run(spec: LadderSpec, folder: Path, as_json: bool) -> None:
    from gptzoo.ablation.planning.forecast import forecast
    from gptzoo.ablation.planning.plan import make_plan
    from gptzoo.ablation.scaling.folder import check_same_ladder
    from gptzoo.ablation.scaling.ladder import check_plan
    from gptzoo.ablation.scaling.plan_ladder import plan_ladder
    from gptzoo.ablation.terminal.print_ladder import ladder_plan_as_dict, print_ladder_plan
    from gptzoo.terminal.text_table import plain_console

    ladder_plan = plan_ladder(spec)
    check_same_ladder(folder, ladder_plan)
    with tempfile.TemporaryDirectory() as name:
        plan = make_plan(ladder_plan.ablation, folder, scratch=Path(name))
        check_plan(ladder_plan, plan)
        estimates = forecast(plan, folder, Path(name))
    if as_json:
        click.echo(to_json(ladder_plan_as_dict(ladder_plan, plan, estimates), indent=2))
    else:
        print_ladder_plan(ladder_plan, plan, folder, estimates, plain_console())
