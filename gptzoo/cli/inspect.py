"""gptzoo inspect: what a model looks at, and what it would say layer by layer."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from gptzoo.cli.options import json_option, model_options, plugin_option
from gptzoo.cli.reading import read_model, read_text

if TYPE_CHECKING:
    from gptzoo.checkpoint.model_folder import Loaded
    from gptzoo.inspection.lens import Lens

F = TypeVar("F", bound=Callable[..., Any])

_MOST = 30_000_000  # weights in one page; more and a browser has its trouble


@click.group()
def inspect() -> None:
    """Look inside a model: attention maps, and the logit lens."""


def _options(command: F) -> F:
    """What both commands take: a model, a text, and where to draw."""
    for decorate in (
        plugin_option,
        json_option,
        model_options,
        click.option(
            "--out",
            type=click.Path(path_type=Path, dir_okay=False),
            metavar="FILE",
            multiple=True,
            help="Draw into FILE.html or FILE.png. May be given again.",
        ),
        click.option("--file", metavar="FILE|-", help="The text of a file, or of stdin, instead."),
        click.option("--prompt", help="The text to look at."),
        click.argument("run", type=click.Path(path_type=Path)),
    ):
        command = decorate(command)
    return command


@inspect.command()
@_options
@click.option("--layer", type=int, multiple=True, metavar="N", help="Only this one, from 0. May be given again.")
@click.option("--head", type=int, multiple=True, metavar="N", help="Only this one, from 0. May be given again.")
def attention(
    run: Path,
    prompt: str | None,
    file: str | None,
    out: tuple[Path, ...],
    layer: tuple[int, ...],
    head: tuple[int, ...],
    checkpoint: str,
    averaged: bool,
    device: str,
    as_json: bool,
) -> None:
    """Draw the attention maps of the model in RUN over a text, for every layer and head.

    The pictures are attention.html, a page to point at that needs nothing beside itself, and attention.png, unless
    --out says otherwise. Layers without scores, such as linear attention, are named and left out.
    """
    from gptzoo.inspection.attention import attention_maps

    text, files = _text(prompt, file), _files(out, as_json, "attention")
    loaded = read_model(run, checkpoint=checkpoint, averaged=averaged, device=device)
    found = attention_maps(loaded, _ids(loaded, text)).selected(layer, head)
    for silent in found.silent:
        click.echo(f"note: {silent} has no scores to show", err=True)
    n_weights = sum(each.weights.numel() for each in found.maps)
    if n_weights > _MOST:
        raise click.UsageError(f"{n_weights:,} weights are too many to draw; choose with --layer and --head")

    def draw(path: Path) -> None:
        from gptzoo.inspection import page, picture

        if path.suffix == ".html":
            _write(path, page.attention_page(found, _title("Attention", loaded, text)))
        else:
            picture.draw_attention(found, _title("Attention", loaded, text), path)

    _draw(files, draw)
    if as_json:
        maps = [
            {"path": one.path, "type": one.type, "heads": one.heads, "weights": one.weights.tolist()}
            for one in found.maps
        ]
        click.echo(json.dumps({"model": str(loaded.folder), "tokens": found.tokens, "maps": maps}))


@inspect.command()
@_options
@click.option("--top", type=click.IntRange(min=1), default=5, show_default=True, help="Candidates at each position.")
def logits(
    run: Path,
    prompt: str | None,
    file: str | None,
    out: tuple[Path, ...],
    top: int,
    checkpoint: str,
    averaged: bool,
    device: str,
    as_json: bool,
) -> None:
    """Show the likeliest next tokens after each token of a text, by the model in RUN.

    The table is what the model says; the pictures of --out, and --json, also have what each of its layers would say if
    the model ended there (the logit lens).
    """
    from gptzoo.inspection.lens import logit_lens

    text, files = _text(prompt, file), _files(out, True, "logits")
    loaded = read_model(run, checkpoint=checkpoint, averaged=averaged, device=device)
    found = logit_lens(loaded, _ids(loaded, text), top)

    def draw(path: Path) -> None:
        from gptzoo.inspection import page, picture

        if path.suffix == ".html":
            _write(path, page.lens_page(found, _title("Logit lens", loaded, text)))
        else:
            picture.draw_lens(found, _title("Logit lens", loaded, text), path)

    _draw(files, draw)
    if as_json:
        click.echo(json.dumps(_lens_as_dict(found, loaded)))
    else:
        _print(found)


def _text(prompt: str | None, file: str | None) -> str:
    if (prompt is None) == (file is None):
        raise click.UsageError("give a --prompt or a --file")
    return read_text(file) if file is not None else prompt or ""


def _ids(loaded: Loaded, text: str) -> list[int]:
    from gptzoo.sampling.text import encode_prompt

    return encode_prompt(loaded, text)


def _files(out: Sequence[Path], printed: bool, name: str) -> list[Path]:
    """Where to draw; left out, in both forms, unless something is printed instead."""
    for path in out:
        if path.suffix not in (".html", ".png"):
            raise click.BadParameter(f"{str(path)!r} should end with .html or .png", param_hint="--out")
    return list(out) if out or printed else [Path(f"{name}.html"), Path(f"{name}.png")]


def _draw(files: Sequence[Path], draw: Callable[[Path], None]) -> None:
    from gptzoo.errors import FolderError

    for path in files:
        try:
            draw(path)
        except OSError as error:
            raise FolderError(f"{path}: cannot be written: {error.strerror}") from None
        click.echo(f"wrote {path}", err=True)


def _write(path: Path, page: str) -> None:
    from gptzoo.utils.atomic import write_text

    write_text(path, page)


def _title(what: str, loaded: Loaded, text: str) -> str:
    shown = " ".join(text.split())
    name = loaded.spec.name or loaded.folder.name
    return f"{what} of {name}: {shown[:90]}{'…' if len(shown) > 90 else ''}"


def _print(found: Lens) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False)
    table.add_column("", justify="right", style="dim")
    table.add_column("after", style="bold", no_wrap=True)
    for place in range(found.ids.shape[-1]):
        table.add_column("likeliest" if place == 0 else "", no_wrap=True)
    for position, token in enumerate(found.tokens):
        cells = []
        for token_id, share in zip(found.ids[-1, position], found.probabilities[-1, position], strict=True):
            cells.append(Text(f"{found.labels[int(token_id)]} {100 * float(share):.1f}%"))
        table.add_row(str(position), Text(token), *cells)
    console = Console()
    console.print(table, width=None if console.is_terminal else 24 * (2 + found.ids.shape[-1]))


def _lens_as_dict(found: Lens, loaded: Loaded) -> dict[str, Any]:
    layers = [
        {
            "path": name,
            "ids": found.ids[layer].tolist(),
            "texts": [[found.labels[token] for token in row] for row in found.ids[layer].tolist()],
            "probabilities": found.probabilities[layer].tolist(),
            "entropy": found.entropy[layer].tolist(),
            "rank_of_next": found.rank[layer].tolist(),
        }
        for layer, name in enumerate(found.layers)
    ]
    return {"model": str(loaded.folder), "tokens": found.tokens, "layers": layers}
