"""`gptzoo verify-resume`: check that a killed and resumed run has bitwise the same results."""

from __future__ import annotations

import tempfile
from dataclasses import asdict
from pathlib import Path

import click

from gptzoo.cli.options import json_option, set_option
from gptzoo.utils.json_text import to_json


@click.command("verify-resume")
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--steps", type=click.IntRange(min=4), default=20, show_default=True, help="Steps of each training run.")
@click.option(
    "--kills",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Number of times that the second run is killed and resumed.",
)
@click.option("--out", type=click.Path(path_type=Path), help="Folder to keep the two runs in (default: delete them).")
@click.option(
    "--plugin",
    "plugins",
    metavar="FILE",
    multiple=True,
    help="Load components from a Python file that defines the hook gptzoo_components(). Repeatable.",
)
@json_option
@set_option
def verify_resume(
    run: Path,
    steps: int,
    kills: int,
    out: Path | None,
    plugins: tuple[str, ...],
    as_json: bool,
    overrides: tuple[str, ...],
) -> None:
    """Check that RUN, killed and resumed, gives bitwise the same results.

    Trains RUN for a few steps twice: once without interruption, and once killed with SIGKILL and resumed. Compares
    weights, optimizer state and metrics, except metrics that depend on the clock. Exits with code 0 if nothing differs,
    else 1.
    """
    from gptzoo import registry
    from gptzoo.checkpoint.model_folder import require_empty_folder
    from gptzoo.spec.files import load_run_spec
    from gptzoo.training.run.verify_resume import verify_resume as verify

    for file in plugins:
        registry.current().load_file(file)
    spec = load_run_spec(run, overrides)
    if out is not None:
        require_empty_folder(out)
    with tempfile.TemporaryDirectory() as temporary:
        verification = verify(spec, out or Path(temporary), steps=steps, kills=kills, plugins=plugins)
    if as_json:
        click.echo(to_json({"holds": verification.holds, **asdict(verification)}, indent=2))
    else:
        kill_steps = ", ".join(map(str, verification.killed_after))
        click.echo(f"{spec.name}: {verification.steps} steps, killed after step {kill_steps} and resumed: ", nl=False)
        click.echo("bitwise the same" if verification.holds else "NOT the same")
        for difference in verification.differences:
            click.echo(f"  {difference}")
    click.get_current_context().exit(0 if verification.holds else 1)
