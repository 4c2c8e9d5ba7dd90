"""`gptzoo import-hf`: convert a checkpoint of Hugging Face transformers into a model folder."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from gptzoo.cli.options import plugin_option

if TYPE_CHECKING:
    from gptzoo.data.tokenizers.tokenizer import Tokenizer
    from gptzoo.interop.hugging_face import ImportResult


@click.command("import-hf")
@click.argument("source", metavar="DIR|ORG/NAME", type=click.Path(path_type=Path))
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--revision", help="Branch, tag or commit of ORG/NAME on the Hugging Face Hub (default: main).")
@plugin_option
def import_hf(source: Path, out: Path, revision: str | None) -> None:
    """Convert a Hugging Face transformers checkpoint into the model folder OUT.

    DIR is a folder written by save_pretrained: config.json, model.safetensors (or its shards) and, to read and write
    text, tokenizer.json with its tokenizer_config.json. ORG/NAME is a model on the Hugging Face Hub: these files are
    downloaded into the cache of huggingface_hub, and code is not.

    The model folder reads text as transformers does, with BOS if the tokenizer uses it, and its texts end at each end
    token that these files, config.json or generation_config.json name. The import fails if a gptzoo spec cannot express
    a setting of config.json. `gptzoo components importer` lists the supported model families.
    """
    from gptzoo.interop.hugging_face import import_folder

    folder, name = _find_checkpoint(source, out, revision)
    report_import(import_folder(folder, out, name=name), source, out)


def report_import(result: ImportResult, source: Path, out: Path) -> None:
    """Print a summary of an import to stderr."""
    spec, tokenizer = result.spec, result.tokenizer
    click.echo(f"read      {result.family} from {source}: {result.n_tensors} tensors", err=True)
    click.echo(
        f"model     {result.n_parameters:,} parameters, {spec.n_layers} layers, d_model {spec.d_model}, "
        f"{spec.n_heads} heads, context {spec.context_length}, vocabulary {spec.vocab_size:,}",
        err=True,
    )
    if tokenizer is not None:
        click.echo(f"tokenizer {tokenizer.name}, {tokenizer.vocab_size:,} ids", err=True)
        for line in _describe_special_tokens(tokenizer):
            click.echo(line, err=True)
    for note in result.notes:
        click.echo(f"note      {note}", err=True)
    click.echo(f"wrote     {out}", err=True)


def _find_checkpoint(source: Path, out: Path, revision: str | None) -> tuple[Path, str | None]:
    """Return the folder of a checkpoint and, if it was downloaded, the name of the model."""
    from gptzoo.checkpoint.model_folder import require_empty_folder
    from gptzoo.hub.client import is_repository_name
    from gptzoo.interop.hub import download_checkpoint
    from gptzoo.utils.units import scaled

    on_hub = not source.exists() and is_repository_name(source.as_posix())
    if not on_hub:
        if revision is not None:
            raise click.UsageError(f"--revision is for models on the Hugging Face Hub, and {source} is none")
        return source, None
    require_empty_folder(out)  # first, because a download may take hours

    def report(commit: str, n_files: int, n_bytes: int) -> None:
        click.echo(f"download  {source} at {commit}: {n_files} files, {scaled(n_bytes)}B", err=True)

    return download_checkpoint(source.as_posix(), revision or "main", report), source.name


def _describe_special_tokens(tokenizer: Tokenizer) -> Iterator[str]:
    special = tokenizer.special_tokens
    if special is None:
        return
    start = " ".join(map(str, special.prefix)) if special.prefix else "no special token"
    yield f"starts    each text with {start}"
    for token, (name, files) in zip(special.end, special.sources.items(), strict=True):
        yield f"ends      a text at {token} ({name}), from {', '.join(files)}"
    if special.chat_templates:
        yield f"chats     by the template {', '.join(special.chat_templates)}"
