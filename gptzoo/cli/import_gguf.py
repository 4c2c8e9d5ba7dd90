"""`gptzoo import-gguf`: convert a GGUF file into a model folder."""

from __future__ import annotations

from pathlib import Path

import click

from gptzoo.cli.import_hf import report_import
from gptzoo.cli.options import plugin_option


@click.command("import-gguf")
@click.argument("source", metavar="FILE", type=click.Path(path_type=Path))
@click.argument("out", type=click.Path(path_type=Path))
@plugin_option
def import_gguf(source: Path, out: Path) -> None:
    """Convert the GGUF file FILE of llama.cpp into the model folder OUT.

    Quantized weights are dequantized to float32, so the model folder is larger than the file. The tokenizer, the end
    tokens and the chat template come from the file. Of a split file, give the first part; the others must be beside it.
    The import fails if no importer reads the file's architecture, or if a gptzoo spec cannot express its metadata.
    """
    from gptzoo.interop.gguf.import_file import import_gguf as import_file

    report_import(import_file(source, out), source, out)
