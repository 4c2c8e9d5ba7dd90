"""`gptzoo profile`: the time, FLOPs and bytes of training steps, by component."""

from __future__ import annotations

from pathlib import Path

import click

from gptzoo.cli.options import allow_oversize_option, device_option, json_option, plugin_option, set_option
from gptzoo.utils.json_text import to_json


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option(
    "--steps",
    type=click.IntRange(min=1),
    default=5,
    show_default=True,
    help="Number of profiled steps. About three times as many are trained, to measure the profiler's overhead.",
)
@click.option("--out", type=click.Path(path_type=Path), help="New folder for the Chrome trace, the table and its JSON.")
@device_option(of_spec=True)
@allow_oversize_option
@json_option
@set_option
@plugin_option
def profile(
    run: Path,
    steps: int,
    out: Path | None,
    device: str | None,
    allow_oversize: bool,
    as_json: bool,
    overrides: tuple[str, ...],
) -> None:
    """Measure where the training steps of RUN spend their time, by component.

    RUN is a run spec: a file, or @NAME for a configuration that comes with gptzoo, such as @quickstart.

    The table has each component's forward and backward pass, the optimizer, data and synchronisation, with time, FLOPs,
    bytes, and the share of the roofline. The limits of the roofline are measured on this machine: the rates of large
    matrix products and of a large copy. With --out, trace.json can be opened at ui.perfetto.dev. No run folder is
    written.
    """
    from gptzoo.profiling.profile import TRACE
    from gptzoo.profiling.profile import profile as profile_run
    from gptzoo.profiling.table import format_table
    from gptzoo.spec.files import load_run_spec

    spec = load_run_spec(run, overrides)
    result = profile_run(spec, steps=steps, out=out, device=device, allow_oversize=allow_oversize)
    click.echo(to_json(result.model_dump(mode="json"), indent=2) if as_json else format_table(result))
    if out is not None:
        click.echo(f"trace: {out / TRACE}", err=True)
