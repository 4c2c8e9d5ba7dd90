"""`gptzoo export-hf`: write a model as a checkpoint of Hugging Face transformers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from gptzoo.cli.options import json_option, plugin_option, weights_options
from gptzoo.utils.json_text import to_json

if TYPE_CHECKING:
    from gptzoo.publishing.export_hf import Dtype

_BYTES_PER_GB = 10**9


@click.command("export-hf")
@click.argument("run", type=click.Path(path_type=Path))
@click.argument("out", type=click.Path(path_type=Path))
@click.option(
    "--family",
    metavar="NAME",
    help="Family to export to, such as llama (default: the most widely read family that computes the same function).",
)
@click.option(
    "--remote-code",
    is_flag=True,
    help="Write the model's own code, which transformers runs with trust_remote_code=True, for a model that no family "
    "computes. Refused if a part cannot be ejected.",
)
@click.option(
    "--dtype",
    type=click.Choice(["auto", "float32", "bfloat16", "float16"]),
    default="auto",
    show_default=True,
    help="Data type of the weights. auto is their type in RUN: float32 after training, often bfloat16 after an import.",
)
@click.option(
    "--max-shard-gb",
    type=click.FloatRange(min=0, min_open=True),
    default=5.0,
    show_default=True,
    help="Maximum size of a safetensors file in GB. A larger model is written as several files.",
)
@weights_options
@json_option
@plugin_option
def export_hf(
    run: Path,
    out: Path,
    family: str | None,
    remote_code: bool,
    dtype: Dtype,
    max_shard_gb: float,
    checkpoint: str,
    averaged: bool,
    as_json: bool,
) -> None:
    """Write the model in RUN as a checkpoint of Hugging Face transformers to the folder OUT.

    RUN is a run, a checkpoint or a model folder. The checkpoint is of a family of transformers that computes the same
    function, so it needs neither gptzoo nor remote code. OUT has config.json, safetensors, the tokenizer,
    generation_config.json and a model card. The export fails, with the reasons, if there is no such family.
    `gptzoo build` shows the family.

    With --remote-code, OUT also has the code of the model: the file that `gptzoo eject` writes, and a wrapper for
    transformers. Loading it needs trust_remote_code=True, but not gptzoo. A model that `gptzoo eject` refuses is
    refused here, too, with the part named.
    """
    from gptzoo.cli.inputs import read_model
    from gptzoo.eject.formatting import NOT_FORMATTED, can_format
    from gptzoo.publishing.export_hf import export_hf as export

    loaded = read_model(run, checkpoint=checkpoint, averaged=averaged, device="cpu")
    result = export(
        loaded,
        out,
        family=family,
        remote_code=remote_code,
        dtype=dtype,
        max_shard_bytes=int(max_shard_gb * _BYTES_PER_GB),
        averaged=averaged,
    )
    if as_json:
        summary = {"family": result.family, "tensors": result.n_tensors, "parameters": result.n_parameters}
        results = {**summary, "dtype": result.dtype, "notes": result.notes}
        click.echo(to_json({"model": str(loaded.folder), "out": str(out), **results}))
        return
    click.echo(f"model     {loaded.folder}: {result.n_parameters:,} parameters", err=True)
    click.echo(f"family    {result.family}: {result.n_tensors} tensors in {result.dtype}", err=True)
    for note in result.notes:
        click.echo(f"note      {note}", err=True)
    if remote_code and not can_format():
        click.echo(f"note      {NOT_FORMATTED}", err=True)
    click.echo(f"wrote     {out}", err=True)
