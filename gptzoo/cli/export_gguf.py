"""`gptzoo export-gguf`: write a model as a GGUF file for llama.cpp."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from gptzoo.cli.options import checkpoint_step, json_option, plugin_option, weights_options
from gptzoo.utils.json_text import to_json

if TYPE_CHECKING:
    from gptzoo.interop.gguf.writer import GgufType


@click.command("export-gguf")
@click.argument("run", type=click.Path(path_type=Path))
@click.argument("out", metavar="OUT.gguf", type=click.Path(path_type=Path))
@click.option(
    "--type",
    "file_type",
    type=click.Choice(["f32", "bf16", "q8_0"]),
    default="f32",
    show_default=True,
    help="Type of the weight matrices. Vectors are always float32. q8_0 has 8.5 bits for each weight.",
)
@click.option("--no-tokenizer", is_flag=True, help="Leave the tokenizer out. llama.cpp can then only take token ids.")
@weights_options
@json_option
@plugin_option
def export_gguf(
    run: Path, out: Path, file_type: GgufType, no_tokenizer: bool, checkpoint: str, averaged: bool, as_json: bool
) -> None:
    """Write the model in RUN as the file OUT.gguf, which llama.cpp, Ollama and LM Studio can run.

    RUN is a run, a checkpoint or a model folder. The file has the weights, the tokenizer and the chat template. The
    export fails, with the reasons, if no architecture of llama.cpp computes the same function as the model.
    """
    from gptzoo.checkpoint.model_folder import find_model_folder, model_title
    from gptzoo.interop.exporting.stored_model import StoredModel
    from gptzoo.interop.gguf.export_file import export_gguf as export

    folder = find_model_folder(run, best=checkpoint == "best", step=checkpoint_step(checkpoint))
    model = StoredModel.open(folder, averaged=averaged)
    result = export(
        model, None if no_tokenizer else model.tokenizer, out, file_type, name=model_title(folder, model.spec)
    )
    if as_json:
        summary = {"architecture": result.architecture, "family": result.family, "tensors": result.n_tensors}
        click.echo(to_json({"model": str(model.folder), "out": str(out), **summary, "notes": result.notes}))
        return
    click.echo(f"exported  {model.folder} as {result.architecture}, {result.n_tensors} tensors, {file_type}", err=True)
    for note in result.notes:
        click.echo(f"note      {note}", err=True)
    click.echo(f"wrote     {out}", err=True)
