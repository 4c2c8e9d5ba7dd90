"""`gptzoo pull`: download a model or a run from the Hugging Face Hub."""

from __future__ import annotations

from pathlib import Path

import click

from gptzoo.cli.options import plugin_option


@click.command()
@click.argument("name", metavar="ORG/NAME")
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--revision", default="main", show_default=True, help="Branch, tag or commit of the repository.")
@plugin_option
def pull(name: str, out: Path, revision: str) -> None:
    """Download ORG/NAME from the Hugging Face Hub into the folder OUT.

    ORG/NAME is a model or a run that `gptzoo push` uploaded. OUT can then be sampled, scored, served and trained like
    any other. Only data is downloaded: pickles and code are left out. If the model has components that are not
    installed, their packages are named, and nothing is installed.
    """
    from gptzoo.publishing.pull import code_in, list_files
    from gptzoo.publishing.pull import pull as pull_run
    from gptzoo.utils.units import scaled

    def report(commit: str, n_files: int, n_bytes: int) -> None:
        click.echo(f"download  {name} at {commit}: {n_files} files, {scaled(n_bytes)}B", err=True)

    result = pull_run(name, out, revision=revision, report=report)
    if code := code_in(result.skipped):
        click.echo(f"note: left out, because loading them could run code: {list_files(code)}", err=True)
    for component in result.needed:
        click.echo(f"needs     {component}, which is not installed", err=True)
    if result.needed:
        click.echo("note: a package runs code of its author; install it only if you trust them", err=True)
    click.echo(f"wrote     {out}", err=True)
