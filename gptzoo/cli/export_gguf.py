"""`gptzoo export-gguf`: write a model as a GGUF file for llama.cpp."""

from __future__ import annotations

from pathlib import Path

import click

from gptzoo.cli.options import plugin_option


@click.command("export-gguf")
@click.argument("path", metavar="RUN", type=click.Path(path_type=Path))
@click.argument("out", metavar="OUT.gguf", type=click.Path(path_type=Path))
@click.option(
    "--type",
    "file_type",
    type=click.Choice(["f32", "bf16", "q8_0"]),
    default="f32",
    show_default=True,
    help="Type of the weight matrices. Vectors are always float32. q8_0 has 8.5 bits for each weight.",
)
@click.option("--best", is_flag=True, help="Export the checkpoint with the lowest validation loss, not the newest.")
@click.option("--averaged", is_flag=True, help="Export the exponential moving average of the weights.")
@click.option("--no-tokenizer", is_flag=True, help="Leave the tokenizer out. llama.cpp can then only take token ids.")
@plugin_option
def export_gguf(path: Path, out: Path, file_type: str, best: bool, averaged: bool, no_tokenizer: bool) -> None:
    """Write the model in RUN as the file OUT.gguf, which llama.cpp, Ollama and LM Studio can run.

    RUN is a run folder, a checkpoint or a model folder. The file has the weights, the tokenizer and the chat template.
    The command fails, with the reasons, if no architecture of llama.cpp computes the same function as the model.
    """
    from gptzoo.checkpoint.model_folder import load
    from gptzoo.interop.gguf.export_file import export_gguf as export_file

    loaded = load(path, best=best, averaged=averaged)
    result = export_file(loaded.model, None if no_tokenizer else loaded.tokenizer, out, file_type)  # type: ignore[arg-type]  # click checks it
    click.echo(f"exported  {loaded.folder} as {result.architecture}, {result.n_tensors} tensors, {file_type}", err=True)
    for note in result.notes:
        click.echo(f"note      {note}", err=True)
    click.echo(f"wrote     {out}", err=True)
