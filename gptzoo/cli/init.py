"""`gptzoo init`: write a starter project, with questions in a terminal."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click

from gptzoo.cli.options import json_option
from gptzoo.scaffold.project import FILES, SIZES, TOKENIZERS, check_text_path, new_project

_DEFAULT_SIZE, _DEFAULT_TOKENIZER = "small", "bpe"


@click.command()
@click.argument("folder", metavar="[DIR]", type=click.Path(path_type=Path), default=Path())
@click.option(
    "--text",
    type=click.Path(path_type=Path),
    help="Text to train on: a UTF-8 file, or a folder of .txt files (default: generated stories).",
)
@click.option("--tokenizer", type=click.Choice(TOKENIZERS), help=f"Tokenizer (default: {_DEFAULT_TOKENIZER}).")
@click.option("--size", type=click.Choice(tuple(SIZES)), help=f"Size of the model (default: {_DEFAULT_SIZE}).")
@json_option
def init(folder: Path, text: Path | None, tokenizer: str | None, size: str | None, as_json: bool) -> None:
    """Write a starter project to DIR: a run on your text, a model, an attention of your own, an ablation and a README.

    DIR is created if necessary (default: the current folder). The files have comments, and all of them work as they
    are. In a terminal, the command asks for the options that are not given. Existing files are never overwritten.
    """
    if sys.stdin.isatty() and not as_json:
        text = text or _ask_for_text()
        tokenizer = tokenizer or click.prompt("Tokenizer", type=click.Choice(TOKENIZERS), default=_DEFAULT_TOKENIZER)
        if size is None:
            for name, known in SIZES.items():
                click.echo(f"  {name}: {known.description}")
            size = click.prompt("Size of the model", type=click.Choice(tuple(SIZES)), default=_DEFAULT_SIZE)
    project = new_project(folder, text, tokenizer or _DEFAULT_TOKENIZER, size or _DEFAULT_SIZE)
    if as_json:
        click.echo(json.dumps({"folder": str(folder), "files": list(FILES), "next": project.next_commands}, indent=2))
        return
    click.echo(f"wrote {', '.join(FILES)} to {folder}\n")
    click.echo("\n".join(f"  {command}" for command in project.next_commands))


def _ask_for_text() -> Path | None:
    """Ask for the path of a text until it exists. Return None for an empty answer."""
    from gptzoo.errors import InputError

    while answer := click.prompt("Text file to train on (empty: generated stories)", default="", show_default=False):
        text = Path(answer).expanduser()
        try:
            check_text_path(text)
        except InputError as error:
            click.echo(str(error), err=True)
            continue
        return text
    return None
