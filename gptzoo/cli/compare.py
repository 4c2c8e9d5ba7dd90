"""`gptzoo compare`: train two runs with several seeds each, and give one verdict."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from gptzoo.cli.options import json_option, plugin_option, set_option
from gptzoo.utils.json_text import to_json

if TYPE_CHECKING:
    from gptzoo.ablation.comparison.result import ComparisonResult, SideResult

_NO_DATA = 1  # exit code
_VERDICT_CODES = {"better": 10, "worse": 11, "same": 12, "cannot tell": 13}


@click.command()
@click.argument("a", type=click.Path(path_type=Path))
@click.argument("b", type=click.Path(path_type=Path), required=False)
@click.option(
    "--seeds",
    type=click.IntRange(min=1),
    help="Number of seeds of each run (default: 5, or those that the folder has). A larger number than the folder has "
    "adds seeds and counts as another look at the results, with a stricter test.",
)
@click.option(
    "--budget",
    metavar="COST=NUMBER",
    help="Training budget of each run: tokens=5e6, flops=1e13 or seconds=600 (default: the lengths in the specs).",
)
@click.option(
    "--metric",
    help="Metric to compare (default: val/loss, or val/bits_per_byte if the tokenizers differ).",
)
@click.option(
    "--margin", type=click.FloatRange(min=0), help="Largest difference that counts as the same (default: 0.001)."
)
@click.option("--held-out", metavar="CORPUS", help="Corpus to measure both on, as a name or JSON (default: their own).")
@click.option(
    "--baseline-lengths",
    metavar="MULTIPLES",
    help="Lengths of additional runs of A, as multiples of its own, such as 0.5,2. The result then says how many "
    "steps, tokens, FLOPs and seconds A needs to reach the loss of B (default: those of the folder, or none).",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    help="Folder of the comparison (default: comparisons/A-B-HASH, where HASH depends on both runs). Trials in it "
    "that are done are not run again.",
)
@click.option("--executor", metavar="JSON", help="Executor of the trials: a name such as local, or a JSON object.")
@click.option("--retry-failed", is_flag=True, help="Rerun the trials that failed earlier.")
@click.option("--exit-code", is_flag=True, help="Exit with 10 for better, 11 worse, 12 same, 13 cannot tell.")
@set_option
@json_option
@plugin_option
@click.pass_context
def compare(
    ctx: click.Context,
    a: Path,
    b: Path | None,
    seeds: int | None,
    budget: str | None,
    metric: str | None,
    margin: float | None,
    held_out: str | None,
    baseline_lengths: str | None,
    out: Path | None,
    executor: str | None,
    retry_failed: bool,
    exit_code: bool,
    overrides: tuple[str, ...],
    as_json: bool,
) -> None:
    """Train run specs A and B with several seeds each, and print whether B is better than A.

    A and B are run specs, as files or as the folders of runs. --set changes B. Without B, A is compared with a changed
    copy of itself:

        gptzoo compare run.json --set model.norm=post_ln --json

    Run the same command again to continue or to read the verdict again: it adds no seeds.

    Exit codes: 0 with any verdict, or that of --exit-code; 1 if all trials of a run failed; 2 if the input is invalid;
    4 if a signal stopped the trials.
    """
    from gptzoo.ablation.comparison.compare import compare as compare_runs
    from gptzoo.ablation.terminal.live_table import LiveTable
    from gptzoo.cli.inputs import read_component
    from gptzoo.terminal.text_table import plain_console, print_lines

    with LiveTable(plain_console(stderr=True)) as live_table:
        result = compare_runs(
            a,
            b,
            overrides=overrides,
            seeds=seeds,
            budget=None if budget is None else _read_budget(budget),
            metric=metric,
            margin=margin,
            held_out=None if held_out is None else read_component("corpus", held_out, "--held-out"),
            baseline_lengths=None if baseline_lengths is None else _read_lengths(baseline_lengths),
            executor=None if executor is None else read_component("executor", executor, "--executor"),
            out=out,
            retry_failed=retry_failed,
            on_progress=live_table,
        )
    if as_json:
        click.echo(to_json(result.model_dump(mode="json"), indent=2))
    else:
        print_lines(plain_console(), _lines(result))
    if result.verdict == "no data":
        ctx.exit(_NO_DATA)
    ctx.exit(_VERDICT_CODES[result.verdict] if exit_code else 0)


def _read_budget(text: str) -> dict[str, float]:
    """Read a budget such as "tokens=5e6". The ablation checks its name and range."""
    cost, equals, number = text.partition("=")
    try:
        value = float(number)
    except ValueError:
        equals = ""
    if not equals or cost not in ("tokens", "flops", "seconds"):
        raise click.BadParameter(f"expected tokens=N, flops=N or seconds=N, got {text!r}", param_hint="--budget")
    return {cost: int(value) if cost == "tokens" and value.is_integer() else value}


def _read_lengths(text: str) -> list[float]:
    """Read lengths such as "0.5,2". The ablation checks their number and range."""
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise click.BadParameter(
            f"expected multiples such as 0.5,2, got {text!r}", param_hint="--baseline-lengths"
        ) from None


def _lines(result: ComparisonResult) -> list[str]:
    """Return the result as text: what was trained, warnings, verdict, both sides, looks and the folder."""
    from gptzoo.ablation.wording import format_count

    lines = [result.trained, *map(str, result.warnings)]
    lines += [f"verdict: {result.verdict}", result.sentence]
    if result.cost_to_reach is not None:
        lines.append(result.cost_to_reach.sentence)
    lines += [f"A: {_side(result, result.a)}", f"B: {_side(result, result.b)}"]
    lines += [f"change from A to B: {change}" for change in result.changes]
    lines += [*result.notes]
    if len(result.looks) > 1:
        looks = ", ".join(f"{look.verdict} after {format_count(look.seeds, 'seed')}" for look in result.looks)
        lines.append(f"looks at the results: {looks}; all of them together err with at most {result.alpha:.0%}")
    return [*lines, f"folder: {result.folder}"]


def _side(result: ComparisonResult, side: SideResult) -> str:
    from gptzoo.ablation.wording import format_count

    mean = "no result"
    if side.mean is not None:
        value = f"{side.mean.value:.4f} {result.unit}".rstrip()
        mean = f"{result.metric} {value}, mean of {format_count(len(side.values), 'seed')}"
    return f"{side.name}: {mean}; {side.parameters:,} parameters"
