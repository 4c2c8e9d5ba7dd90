"""`gptzoo reference`: reference pages in Markdown, generated from the code."""

from __future__ import annotations

from pathlib import Path

import click

from gptzoo.cli.option_sections import CommandGroup
from gptzoo.cli.options import plugin_option


@click.command()
@click.argument("kind", required=False)
@click.option(
    "--package",
    metavar="NAME",
    help="Limit the pages to the components of this installed package (gptzoo: the built-in components).",
)
@click.option("--gallery", is_flag=True, help="Print a table of all components of models with their costs instead.")
@click.option("--specs", is_flag=True, help="Print the pages of spec files with all fields instead.")
@click.option("--commands", is_flag=True, help="Print the pages of all commands instead.")
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="FOLDER",
    help="Write the pages into this folder, as KIND.md or gallery.md, instead of printing them.",
)
@plugin_option
def reference(
    kind: str | None,
    package: str | None,
    gallery: bool,
    specs: bool,
    commands: bool,
    out: Path | None,
) -> None:
    """Print the reference page of KIND, or of every kind, with its interface and components.

    The pages are generated from docstrings, signatures and options, and every option has a section of its own. With
    --package you can generate pages for your own package. --out replaces previously generated pages, but no other
    files.
    """
    if (kind is not None) + gallery + specs + commands > 1:
        raise click.UsageError("give one of KIND, --gallery, --specs and --commands, not several")
    if package is not None and (specs or commands):
        raise click.UsageError("--package limits pages of components; leave it out with --specs and --commands")
    if gallery:
        from gptzoo.docgen.gallery import render_gallery

        pages = {"gallery": render_gallery(package)}
    elif specs:
        from gptzoo.cli.schema import spec_schemas
        from gptzoo.docgen.spec_page import render_spec_page

        pages = {name: render_spec_page(name, make_schema()) for name, make_schema in spec_schemas().items()}
    elif commands:
        pages = _command_pages()
    else:
        from gptzoo.docgen.page import kinds_with_components, render_kind_page

        kinds = [kind] if kind else kinds_with_components(package)
        pages = {each_kind: render_kind_page(each_kind, package) for each_kind in kinds}
    if out is None:
        click.echo("\n".join(pages.values()), nl=False)
    else:
        _write_pages(pages, out)


def _command_pages() -> dict[str, str]:
    from gptzoo.docgen.command_page import render_command_pages

    root = click.get_current_context().find_root().command
    assert isinstance(root, CommandGroup)
    return render_command_pages("gptzoo", root.sections)


def _write_pages(pages: dict[str, str], folder: Path) -> None:
    from gptzoo.docgen.markdown import GENERATED_MARK
    from gptzoo.errors import FolderError
    from gptzoo.utils.atomic import write_text

    files = {folder / f"{name}.md": text for name, text in pages.items()}
    for file in files:
        if file.exists() and not file.read_text(encoding="utf-8", errors="replace").startswith(GENERATED_MARK):
            raise FolderError(f"{file}: not a generated page, so it is not replaced. Move it, or choose another --out.")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for file, text in files.items():
            write_text(file, text)
    except OSError as error:
        raise FolderError(f"{folder}: cannot write: {error.strerror}. Choose another --out.") from None
    click.echo(f"{folder}: {', '.join(file.name for file in files)}", err=True)
