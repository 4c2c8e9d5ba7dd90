"""gptzoo reference: pages in Markdown, made from the code."""

from __future__ import annotations

from pathlib import Path

import click

from gptzoo.cli.options import plugin_option


@click.command()
@click.argument("kind", required=False)
@click.option("--package", metavar="NAME", help="Only what this package brings; gptzoo is what ships.")
@click.option("--gallery", is_flag=True, help="All parts of models in one table instead, with what they cost.")
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="FOLDER",
    help="Write the pages there, KIND.md or gallery.md, instead of printing them.",
)
@plugin_option
def reference(kind: str | None, package: str | None, gallery: bool, out: Path | None) -> None:
    """Print the reference page of a KIND, or of each: what it asks of a component, and the components there are.

    It is made from docstrings, signatures and options, so that --package makes the pages of your package too. A page
    that was generated before is replaced; any other file is left alone.
    """
    from gptzoo.docgen.gallery import gallery as gallery_page
    from gptzoo.docgen.page import kinds_of, page

    if gallery and kind is not None:
        raise click.UsageError("give a KIND or --gallery, not both")
    if gallery:
        pages = {"gallery": gallery_page(package)}
    else:
        pages = {each: page(each, package) for each in ([kind] if kind else kinds_of(package))}
    if out is None:
        click.echo("\n".join(pages.values()), nl=False)
    else:
        _write(pages, out)


def _write(pages: dict[str, str], folder: Path) -> None:
    from gptzoo.docgen.page import MARK
    from gptzoo.errors import FolderError
    from gptzoo.utils.atomic import write_text

    files = {folder / f"{name}.md": text for name, text in pages.items()}
    for file in files:
        if file.exists() and not file.read_text(encoding="utf-8", errors="replace").startswith(MARK):
            raise FolderError(f"{file}: is no generated page; move it away, or choose another --out")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for file, text in files.items():
            write_text(file, text)
    except OSError as error:
        raise FolderError(f"{folder}: cannot be written: {error.strerror}") from None
    click.echo(f"{folder}: {', '.join(file.name for file in files)}", err=True)
