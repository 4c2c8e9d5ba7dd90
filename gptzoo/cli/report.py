"""gptzoo report: what an ablation has found, as a page, pictures and tables."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import click

from gptzoo.cli.options import json_option


@click.command()
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), help="The folder to write to; left out, DIR/report.")
@click.option("--serve", is_flag=True, help="Write nothing; show the page in a browser, and follow a running ablation.")
@click.option("--port", type=click.IntRange(0, 65535), default=8765, show_default=True, help="Of --serve; 0 is any.")
@json_option
def report(folder: Path, out: Path | None, serve: bool, port: int, as_json: bool) -> None:
    """Make the report of the ablation in DIR, running or done: report.html, figures/ and tables/.

    The page needs nothing beside itself: it can be mailed, and works without a network. With --json the statements
    of the report are printed as data.
    """
    from gptzoo.ablation.planning.folder import read_outcome
    from gptzoo.errors import FolderError

    if (folder / "run.json").is_file():
        raise FolderError(f"{folder}: holds a single run; a report compares the runs of an ablation (gptzoo ablate)")
    if serve:
        _serve(folder, port)
        return
    from gptzoo.ablation.report.write import write_report

    made = write_report(read_outcome(folder), out or folder / "report", note=lambda text: click.echo(text, err=True))
    if as_json:
        files = [str(file) for file in made.files]
        click.echo(json.dumps({"page": str(made.page), "files": files, "analysis": asdict(made.analysis)}, indent=2))
    else:
        click.echo(made.page)


def _serve(folder: Path, port: int) -> None:
    from gptzoo.ablation.report.serve import ReportServer

    with ReportServer(folder, port) as server:
        click.echo(f"{server.address} follows {folder}; Ctrl-C ends it", err=True)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            click.echo("ended", err=True)
