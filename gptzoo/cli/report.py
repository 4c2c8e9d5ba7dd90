"""`gptzoo report`: the report of an ablation or a scaling ladder as a page, figures and tables, or served live."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from gptzoo.cli.options import json_option
from gptzoo.utils.json_text import to_json


@click.command()
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), help="Output folder (default: DIR/report).")
@click.option(
    "--serve",
    is_flag=True,
    help="Serve the report to a browser on this machine instead of writing files. It follows running trials.",
)
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=8765,
    show_default=True,
    help="Port for --serve; 0 for any free port.",
)
@json_option
def report(folder: Path, out: Path | None, serve: bool, port: int, as_json: bool) -> None:
    """Write the report of the ablation or scaling ladder in DIR, running or done: report.html, figures/ and tables/.

    report.html is self-contained: it can be mailed and works offline. With --json, the statistics of the report are
    also printed as JSON.
    """
    from gptzoo.ablation.planning.folder import read_outcome
    from gptzoo.errors import FolderError

    if (folder / "run.json").is_file():
        raise FolderError(f"{folder}: is a single run; give the folder of an ablation (see gptzoo ablate)")
    if serve:
        if as_json or out is not None:
            raise click.UsageError("--serve writes no files and no JSON. Leave out --out and --json.")
        _serve(folder, port)
        return
    from gptzoo.ablation.report.write import write_ladder_report, write_report
    from gptzoo.ablation.scaling.folder import is_ladder

    def note(text: str) -> None:
        click.echo(text, err=True)

    out = out or folder / "report"
    data: dict[str, Any]
    if is_ladder(folder):
        of_ladder = write_ladder_report(folder, out, note=note)
        page, files, data = of_ladder.page, of_ladder.files, {"ladder": of_ladder.result.model_dump(mode="json")}
    else:
        written = write_report(read_outcome(folder), out, note=note)
        page, files, data = written.page, written.files, {"analysis": asdict(written.analysis)}
    if as_json:
        click.echo(to_json({"page": str(page), "files": [str(file) for file in files], **data}, indent=2))
    else:
        click.echo(page)


def _serve(folder: Path, port: int) -> None:
    from gptzoo.ablation.report.serve import ReportServer

    with ReportServer(folder, port) as server:
        click.echo(f"{server.address} shows {folder}; press Ctrl-C to stop", err=True)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            click.echo("stopped", err=True)
