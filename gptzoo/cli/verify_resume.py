"""gptzoo verify-resume: is a run that is killed and resumed, bit by bit, the run that was not?"""

from __future__ import annotations

import json
import tempfile
from dataclasses import asdict
from pathlib import Path

import click

from gptzoo.cli.options import json_option, set_option


@click.command("verify-resume")
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--steps", type=click.IntRange(min=4), default=20, show_default=True, help="Length of the two trainings.")
@click.option("--kills", type=click.IntRange(min=1), default=1, show_default=True, help="How often one of them dies.")
@click.option("--out", type=click.Path(path_type=Path), help="Keep the two runs here; left out, they are removed.")
@click.option("--plugin", "plugins", metavar="FILE", multiple=True, help="Load components from a Python file.")
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
    """Train RUN for a few steps twice, once killed with SIGKILL and resumed, and compare the two bit by bit.

    Compared are weights, optimizer state and metrics, but for those that depend on the clock. Leaves with 0 if nothing
    differs, and with 1 if something does.
    """
    from gptzoo import registry
    from gptzoo.checkpoint.model_folder import refuse_used
    from gptzoo.spec.files import load_run_spec
    from gptzoo.training.run.verify_resume import verify_resume as verify

    for file in plugins:
        registry.current().load_file(file)
    spec = load_run_spec(run, overrides)
    if out is not None:
        refuse_used(out)
    with tempfile.TemporaryDirectory() as temporary:
        found = verify(spec, out or Path(temporary), steps=steps, kills=kills, plugins=plugins)
    if as_json:
        click.echo(json.dumps({"holds": found.holds, **asdict(found)}, indent=2))
    else:
        at = ", ".join(map(str, found.killed_after))
        click.echo(f"{spec.name}: {found.steps} steps, killed after step {at} and resumed: ", nl=False)
        click.echo("bitwise the same" if found.holds else "NOT the same")
        for difference in found.differences:
            click.echo(f"  {difference}")
    click.get_current_context().exit(0 if found.holds else 1)
