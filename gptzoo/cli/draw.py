"""`gptzoo draw`: a picture of a model, or of two with their differences marked."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from gptzoo.cli.options import plugin_option, set_option

if TYPE_CHECKING:
    from gptzoo.spec.model import ModelSpec


@click.command()
@click.argument("spec", type=click.Path(path_type=Path))
@click.argument("other", type=click.Path(path_type=Path), required=False)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    required=True,
    help="File to write: an image (.svg or .png) or a page that needs no other file (.html).",
)
@set_option
@plugin_option
def draw(spec: Path, other: Path | None, out: Path, overrides: tuple[str, ...]) -> None:
    """Draw a model as an image or a page: blocks, options, shapes and parameters of all parts.

    SPEC is a model spec, a run spec, or the folder of a model, a checkpoint or a run. With OTHER, both models are drawn
    side by side, and what differs is marked. --set changes the last of them:

        gptzoo draw @tiny @tiny --set norm=post_ln --out norms.svg
    """
    from gptzoo.inspection.drawing.drawing import draw as draw_models

    if other is None:
        drawing = draw_models(_read_model(spec, overrides))
    else:
        drawing = draw_models(_read_model(spec), _read_model(other, overrides))
    click.echo(drawing.save(out))


def _read_model(path: Path, overrides: tuple[str, ...] = ()) -> ModelSpec:
    from gptzoo.cli.inputs import read_spec
    from gptzoo.spec.run import RunSpec

    model_or_run = read_spec(path, overrides)
    return model_or_run.model if isinstance(model_or_run, RunSpec) else model_or_run
