"""`gptzoo train`: train a model, or resume a run."""

from __future__ import annotations

import contextlib
import importlib.util
from pathlib import Path

import click

from gptzoo.cli.options import allow_oversize_option, device_option, plugin_option, set_option, verify_option


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Run folder to write.")
@click.option("--resume", is_flag=True, help="Continue from the newest checkpoint in --out, or start if there is none.")
@click.option("--extend", is_flag=True, help="Resume even if steps, tokens or epochs of the spec have changed.")
@click.option(
    "--override",
    is_flag=True,
    help="Resume even if any field of the spec, or the data, has changed. changes.jsonl records the changes.",
)
@click.option(
    "--until", type=click.IntRange(min=1), metavar="STEP", help="Pause after this step. Continue with --resume."
)
@verify_option
@device_option(of_spec=True)
@click.option("--bare", is_flag=True, help="Write no loss curve and no sample at the end.")
@click.option("--no-plot", is_flag=True, help="Write no loss curve at the end.")
@allow_oversize_option
@set_option
@plugin_option
def train(
    run: Path,
    out: Path,
    resume: bool,
    extend: bool,
    override: bool,
    until: int | None,
    device: str | None,
    bare: bool,
    no_plot: bool,
    verify: bool,
    allow_oversize: bool,
    overrides: tuple[str, ...],
) -> None:
    """Train the model of RUN, a run spec in JSON, YAML or TOML.

    RUN is a file, or @NAME for a configuration that comes with gptzoo, such as @quickstart; @ alone lists them.

    Writes run.json (the resolved spec), environment.json, metrics.jsonl, checkpoints/, sample.txt and loss.png to OUT.
    After Ctrl-C or SIGTERM it finishes the step, saves a checkpoint and exits with code 4. A resumed run ends with
    bitwise the same weights as an uninterrupted one.
    """
    from gptzoo import train as train_run
    from gptzoo.data.file_checksums import verify_files
    from gptzoo.spec.files import load_run_spec
    from gptzoo.training.distributed.process_group import launched_rank
    from gptzoo.training.final_outputs import write_loss_curve, write_sample

    if device is not None:
        overrides = (*overrides, f"device={device}")
    spec = load_run_spec(run, overrides)
    with verify_files() if verify else contextlib.nullcontext():
        result = train_run(
            spec,
            out,
            resume=resume,
            extend=extend,
            override=override,
            until=until,
            allow_oversize=allow_oversize,
        )
    if launched_rank() != 0:
        return
    if result.paused:
        click.echo(f"{result.folder}: paused after {result.steps} steps. Continue with --resume", err=True)
        return
    click.echo(f"{result.folder}: {result.steps} steps, val/loss {result.metrics['val/loss']:.4f}", err=True)
    if result.warnings:
        n = len(result.warnings)
        click.echo(f"{n} {'warning' if n == 1 else 'warnings'}: see {result.folder / 'warnings.json'}", err=True)
    if not (bare or no_plot):
        if importlib.util.find_spec("matplotlib") is None:
            click.echo("no loss curve: install matplotlib with pip install 'gptzoo[plot]'", err=True)
        else:
            file = write_loss_curve(spec, out)
            click.echo(f"loss curve: {file}", err=True)
    if not bare:
        text = write_sample(spec, out, result.example_prompt)
        click.echo(text)
