"""A report as files: the page, each figure as PNG and SVG, and tables for programs and for papers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from gptzoo.ablation.records.analysis import Analysis
from gptzoo.ablation.records.outcome import Outcome
from gptzoo.ablation.report.figures import figures
from gptzoo.ablation.report.page import page
from gptzoo.ablation.report.palette import looks
from gptzoo.ablation.report.pictures import draw
from gptzoo.ablation.report.tables import tables
from gptzoo.ablation.report.typeset import latex, markdown
from gptzoo.ablation.statistics.analyse import analyse
from gptzoo.errors import FolderError
from gptzoo.utils.atomic import write_text


@dataclass(frozen=True)
class Report:
    """What was written, and what it states."""

    page: Path
    files: list[Path]  # the page and all others
    analysis: Analysis


def write_report(outcome: Outcome, folder: str | Path, *, note: Callable[[str], None] = lambda text: None) -> Report:
    """Write the report of an ablation, running or done, replacing what an earlier one wrote.

    report.html, figures/*.png and *.svg, tables/*.csv and *.parquet, tables/ranking.md and ranking.tex. `note` is told
    what could not be made for want of an optional package. Raises FolderError where the folder cannot be written.
    """
    try:
        return _write(outcome, Path(folder), note)
    except OSError as error:
        raise FolderError(
            f"{error.filename or folder}: cannot be written: {error.strerror}; choose another --out"
        ) from error


def _write(outcome: Outcome, path: Path, note: Callable[[str], None]) -> Report:
    analysis = analyse(outcome)
    drawn, tabled = figures(outcome, analysis), tables(outcome, analysis)
    for part in ("figures", "tables"):
        (path / part).mkdir(parents=True, exist_ok=True)
    pictures = []
    try:
        styles = looks([variant.name for variant in outcome.variants], outcome.baseline)
        pictures = [(figure.name, file) for figure in drawn for file in draw(figure, styles, path / "figures")]
    except ImportError:
        note("no PNG and SVG without matplotlib: pip install 'gptzoo[plot]'")
    files = [file for _, file in pictures]
    texts = {f"{table.name}.csv": table.as_csv() for table in tabled}
    texts |= {"ranking.md": markdown(outcome, analysis), "ranking.tex": latex(outcome, analysis)}
    for name, text in texts.items():
        write_text(path / "tables" / name, text)
        files.append(path / "tables" / name)
    try:
        for table in tabled:
            table.write_parquet(file := path / "tables" / f"{table.name}.parquet")
            files.append(file)
    except ImportError:
        note("no Parquet without pyarrow: pip install 'gptzoo[data]'")
    first = {name: file.read_bytes() for name, file in reversed(pictures) if file.suffix == ".png"}
    write_text(path / "report.html", page(outcome, analysis, drawn, tabled, pictures=first))
    return Report(path / "report.html", [path / "report.html", *files], analysis)
