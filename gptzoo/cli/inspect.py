"""`gptzoo inspect`: attention maps, and the next-token predictions of a model and its layers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from gptzoo.cli.inputs import check_text, read_model, read_text
from gptzoo.cli.option_sections import CommandGroup
from gptzoo.cli.options import json_option, model_options, plugin_option, special_tokens_option
from gptzoo.utils.json_text import to_json

if TYPE_CHECKING:
    from gptzoo.checkpoint.model_folder import LoadedModel
    from gptzoo.inspection.lens import LogitLens
    from gptzoo.interop.exporting.summary import ExportSummary

Command = TypeVar("Command", bound=Callable[..., Any])

_MAX_WEIGHTS = 30_000_000  # attention weights in one page; browsers become slow with more
_MAX_TITLE_TEXT = 90  # characters of the prompt in a title


@click.group(cls=CommandGroup)
def inspect() -> None:
    """Look inside a model: attention maps and the logit lens.

    Both commands also say which family of Hugging Face transformers the model is exported to, or what the closest one
    lacks.
    """


def _shared_options(command: Command) -> Command:
    """Add the argument and options that both commands have: a model, a text, and where to draw."""
    for decorate in (
        plugin_option,
        json_option,
        model_options,
        click.option(
            "--out",
            type=click.Path(path_type=Path, dir_okay=False),
            metavar="FILE",
            multiple=True,
            help="Output file: FILE.html for an interactive page, FILE.png for an image. Repeatable.",
        ),
        special_tokens_option,
        click.option("--file", metavar="FILE|-", help="File with the text; - for stdin."),
        click.option("--prompt", help="Text to run the model on."),
        click.argument("run", type=click.Path(path_type=Path)),
    ):
        command = decorate(command)
    return command


@inspect.command()
@_shared_options
@click.option("--layer", type=int, multiple=True, metavar="N", help="Draw only layer N, from 0. Repeatable.")
@click.option("--head", type=int, multiple=True, metavar="N", help="Draw only head N, from 0. Repeatable.")
def attention(
    run: Path,
    prompt: str | None,
    file: str | None,
    special_tokens: bool,
    out: tuple[Path, ...],
    layer: tuple[int, ...],
    head: tuple[int, ...],
    checkpoint: str,
    averaged: bool,
    device: str,
    as_json: bool,
) -> None:
    """Draw the attention maps of the model in RUN for a text.

    By default, draws every layer and head. Without --out and --json, writes attention.html, a self-contained
    interactive page, and attention.png. Layers that compute no attention scores, such as linear attention, are skipped
    with a note.
    """
    from gptzoo.inspection.attention import attention_maps

    text, files = _input_text(prompt, file), _output_files(out, "attention", default=not as_json)
    loaded = read_model(run, checkpoint=checkpoint, averaged=averaged, device=device)
    export = _print_export(loaded)
    maps = attention_maps(loaded, _token_ids(loaded, text, special_tokens)).select(layer, head)
    for sublayer in maps.without_map:
        click.echo(f"note: {sublayer} has no attention scores", err=True)
    n_weights = sum(attention_map.weights.numel() for attention_map in maps.maps)
    if n_weights > _MAX_WEIGHTS:
        raise click.UsageError(
            f"{n_weights:,} attention weights are too many to draw (at most {_MAX_WEIGHTS:,}); "
            "select some with --layer and --head"
        )
    title = _title("Attention", loaded, text)

    def draw(path: Path) -> None:
        if path.suffix == ".html":
            from gptzoo.inspection.html_pages import attention_page

            _write(path, attention_page(maps, title))
        else:
            from gptzoo.inspection.plots import draw_attention

            draw_attention(maps, title, path)

    _draw_all(files, draw)
    if as_json:
        data = [
            {
                "path": attention_map.path,
                "type": attention_map.type,
                "heads": attention_map.heads,
                "weights": attention_map.weights.tolist(),
            }
            for attention_map in maps.maps
        ]
        click.echo(to_json({**_model_as_dict(loaded, export), "tokens": maps.tokens, "maps": data}))


@inspect.command()
@_shared_options
@click.option(
    "--top", type=click.IntRange(min=1), default=5, show_default=True, help="Number of candidate tokens per position."
)
def logits(
    run: Path,
    prompt: str | None,
    file: str | None,
    special_tokens: bool,
    out: tuple[Path, ...],
    top: int,
    checkpoint: str,
    averaged: bool,
    device: str,
    as_json: bool,
) -> None:
    """Print the most likely next tokens after each token of a text.

    The model in RUN predicts the tokens. --out and --json also include the predictions of each layer: the logits that
    the model would compute if that layer were its last (the logit lens).
    """
    from gptzoo.inspection.lens import logit_lens

    text, files = _input_text(prompt, file), _output_files(out, "logits", default=False)
    loaded = read_model(run, checkpoint=checkpoint, averaged=averaged, device=device)
    export = _print_export(loaded)
    lens = logit_lens(loaded, _token_ids(loaded, text, special_tokens), top)
    title = _title("Logit lens", loaded, text)

    def draw(path: Path) -> None:
        if path.suffix == ".html":
            from gptzoo.inspection.html_pages import lens_page

            _write(path, lens_page(lens, title))
        else:
            from gptzoo.inspection.plots import draw_lens

            draw_lens(lens, title, path)

    _draw_all(files, draw)
    if as_json:
        click.echo(to_json(_lens_as_dict(lens, loaded, export)))
    else:
        _print(lens)


def _print_export(loaded: LoadedModel) -> ExportSummary:
    """Print the family that a model is exported to, and return it."""
    from gptzoo.interop.exporting.summary import summarise_export

    export = summarise_export(loaded.spec)
    click.echo(f"{loaded.folder}: {export}", err=True)
    return export


def _input_text(prompt: str | None, file: str | None) -> str:
    if (prompt is None) == (file is None):
        raise click.UsageError("give either --prompt or --file")
    return read_text(file) if file is not None else check_text(prompt or "", "--prompt")


def _token_ids(loaded: LoadedModel, text: str, special_tokens: bool) -> list[int]:
    from gptzoo.sampling.text import encode_prompt

    return encode_prompt(loaded, text, special_tokens=special_tokens)


def _output_files(out: Sequence[Path], name: str, *, default: bool) -> list[Path]:
    """Return the files of --out. Without any, return NAME.html and NAME.png if `default`, else none."""
    for path in out:
        if path.suffix not in (".html", ".png"):
            raise click.BadParameter(f"expected FILE.html or FILE.png, got {str(path)!r}", param_hint="--out")
    if not out and default:
        return [Path(f"{name}.html"), Path(f"{name}.png")]
    return list(out)


def _draw_all(files: Sequence[Path], draw: Callable[[Path], None]) -> None:
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


def _title(subject: str, loaded: LoadedModel, text: str) -> str:
    text = " ".join(text.split())
    return f"{subject} of {loaded.name}: {text[:_MAX_TITLE_TEXT]}{'…' if len(text) > _MAX_TITLE_TEXT else ''}"


def _print(lens: LogitLens) -> None:
    from rich.text import Text

    from gptzoo.terminal.text_table import plain_console, plain_table

    n_candidates = lens.ids.shape[-1]
    table = plain_table(">", "after", "top tokens", *[""] * (n_candidates - 1))
    for position, token in enumerate(lens.tokens):
        candidates = zip(lens.ids[-1, position], lens.probabilities[-1, position], strict=True)
        cells = [Text(f"{lens.labels[int(token_id)]} {100 * float(p):.1f}%") for token_id, p in candidates]
        table.add_row(Text(str(position), "dim"), Text(token, "bold"), *cells)
    plain_console().print(table)


def _lens_as_dict(lens: LogitLens, loaded: LoadedModel, export: ExportSummary) -> dict[str, Any]:
    layers = [
        {
            "path": name,
            "ids": lens.ids[layer].tolist(),
            "texts": [[lens.labels[token] for token in row] for row in lens.ids[layer].tolist()],
            "probabilities": lens.probabilities[layer].tolist(),
            "entropy": lens.entropy[layer].tolist(),
            "rank_of_next": lens.rank[layer].tolist(),
        }
        for layer, name in enumerate(lens.layers)
    ]
    return {**_model_as_dict(loaded, export), "tokens": lens.tokens, "layers": layers}


def _model_as_dict(loaded: LoadedModel, export: ExportSummary) -> dict[str, Any]:
    return {"model": str(loaded.folder), "export": asdict(export)}
