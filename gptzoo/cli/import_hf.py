"""gptzoo import-hf: a model folder from a checkpoint of Hugging Face transformers."""

from __future__ import annotations

from pathlib import Path

import click

from gptzoo.cli.options import plugin_option


@click.command("import-hf")
@click.argument("source", metavar="DIR", type=click.Path(path_type=Path))
@click.argument("out", type=click.Path(path_type=Path))
@plugin_option
def import_hf(source: Path, out: Path) -> None:
    """Make the model folder OUT from the checkpoint in DIR.

    DIR is what transformers' save_pretrained writes: config.json, model.safetensors (or shards of it) and, for text,
    tokenizer.json. What a spec cannot say is refused. `gptzoo components` lists the families, kind importer.
    """
    from gptzoo.interop.hugging_face import import_folder

    imported = import_folder(source, out)
    spec, tokenizer = imported.spec, imported.tokenizer
    click.echo(f"read      {imported.family} from {source}: {imported.n_tensors} tensors", err=True)
    click.echo(
        f"model     {imported.n_parameters:,} parameters, {spec.n_layers} layers, d_model {spec.d_model}, "
        f"{spec.n_heads} heads, context {spec.context_length}, vocabulary {spec.vocab_size:,}",
        err=True,
    )
    if tokenizer is not None:
        click.echo(f"tokenizer {tokenizer.name}, {tokenizer.vocab_size:,} ids", err=True)
    for note in imported.notes:
        click.echo(f"note      {note}", err=True)
    click.echo(f"wrote     {out}", err=True)
