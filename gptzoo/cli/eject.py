"""`gptzoo eject`: write a variant as one PyTorch file."""

from __future__ import annotations

from pathlib import Path

import click

from gptzoo.cli.options import plugin_option, weights_options


@click.command()
@click.argument("source", metavar="SPEC|RUN", type=click.Path(path_type=Path))
@click.argument("out", metavar="MODEL.PY", type=click.Path(path_type=Path, dir_okay=False))
@click.option(
    "--weights",
    is_flag=True,
    help="Also write the weights of a run or model folder beside the file, as safetensors, for its function `load`.",
)
@click.option(
    "--padding",
    is_flag=True,
    help="Let `forward` take positions, with -1 for padding, so that a batch may hold texts of different lengths.",
)
@click.option("--force", is_flag=True, help="Overwrite existing files.")
@weights_options
@click.option("--best", is_flag=True, hidden=True, help="Older name of --checkpoint best.")
@plugin_option
def eject(
    source: Path,
    out: Path,
    weights: bool,
    padding: bool,
    force: bool,
    checkpoint: str,
    averaged: bool,
    best: bool,
) -> None:
    """Write the model of SPEC or RUN as one readable PyTorch file that does not need gptzoo.

    SPEC is a model spec or a run spec with a vocab_size. RUN is a run folder, a checkpoint or a model folder. The file
    has only the code that this variant uses, with `load`, `generate` with a cache, and initial weights for training
    from scratch. Before the file is written, it is run in a process that cannot import gptzoo: it must compute the
    same logits, greedy tokens, loss and gradients as the model.
    """
    from gptzoo.cli.inputs import read_model
    from gptzoo.eject.eject import eject_model, eject_source, write_weights
    from gptzoo.eject.formatting import NOT_FORMATTED, can_format
    from gptzoo.errors import InputError
    from gptzoo.spec.files import load_model_spec
    from gptzoo.utils.atomic import write_text

    if out.suffix != ".py":
        raise InputError(f"{out}: expected the name of a Python file, such as model.py")
    weights_file = out.with_suffix(".safetensors")
    for file in (out, weights_file) if weights else (out,):
        if file.exists() and not force:
            raise InputError(f"{file}: already exists. Choose another name, or overwrite it with --force.")
    if source.is_dir():
        checkpoint = "best" if best else checkpoint
        model = read_model(source, checkpoint=checkpoint, averaged=averaged, device="cpu").model.float()
        text = eject_model(model, padding=padding)
    else:
        options = {"--weights": weights, "--averaged": averaged, "--checkpoint": best or checkpoint != "last"}
        if given := [name for name, is_given in options.items() if is_given]:
            raise InputError(
                f"{source}: is a spec, which has no weights. Give a run or a model folder, or leave out {given[0]}."
            )
        text = eject_source(load_model_spec(source), padding=padding)
    write_text(out, text)
    click.echo(f"wrote {out}", err=True)
    if weights:
        write_weights(weights_file, model)
        click.echo(f"wrote {weights_file}", err=True)
    if not can_format():
        click.echo(NOT_FORMATTED, err=True)
