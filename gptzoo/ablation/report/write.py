"""Report files: the HTML page, figures as PNG and SVG, and tables for programs and for papers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from gptzoo.ablation.records.analysis import Analysis
from gptzoo.ablation.records.outcome import Outcome
from gptzoo.ablation.report.figures import Figure, build_figures
from gptzoo.ablation.report.html_page import render_page
from gptzoo.ablation.report.palette import outcome_styles
from gptzoo.ablation.report.paper_tables import build_paper_tables
from gptzoo.ablation.report.static_figures import draw_figure, draw_heat_map
from gptzoo.ablation.report.tables import Table, build_tables
from gptzoo.ablation.report.task_figures import build_heat_map
from gptzoo.ablation.report.without_paths import without_paths
from gptzoo.ablation.statistics.analyse import analyse
from gptzoo.errors import FolderError
from gptzoo.utils.atomic import write_text


@dataclass(frozen=True)
class Report:
    """The files of a report and the analysis they show."""

    page: Path
    files: list[Path]  # all files, the page first
    analysis: Analysis


def write_report(outcome: Outcome, folder: str | Path, *, note: Callable[[str], None] = lambda text: None) -> Report:
    """Analyse an ablation, running or done, and write its report into a folder. Existing files are replaced.

    The files are report.html, figures/*.png and *.svg, tables/*.csv and *.parquet, tables/ranking.md and ranking.tex,
    with scores on tasks of lm-evaluation-harness tables/scores.md and scores.tex, and with synthetic tasks
    tables/tasks.md and tasks.tex. They have neither folder names nor the name of the host.

    note: called with a message for each kind of file that needs a package that is not installed.

    Raises FolderError if the folder cannot be written.
    """
    try:
        return _write_report(outcome, Path(folder), note)
    except OSError as error:
        raise FolderError(
            f"{error.filename or folder}: cannot be written: {error.strerror}; choose another --out"
        ) from error


def _write_report(outcome: Outcome, folder: Path, note: Callable[[str], None]) -> Report:
    analysis = without_paths(analyse(outcome))
    outcome = without_paths(outcome)
    figures, tables = build_figures(outcome, analysis), build_tables(outcome, analysis)
    for subfolder in ("figures", "tables"):
        (folder / subfolder).mkdir(parents=True, exist_ok=True)
    images = _write_figures(figures, outcome, analysis, folder / "figures", note)
    table_files = _write_tables(tables, outcome, analysis, folder / "tables", note)
    # The page embeds the first PNG of each figure.
    pngs = {figure: next(file for file in files if file.suffix == ".png") for figure, files in images.items()}
    page = folder / "report.html"
    embedded = {figure: file.read_bytes() for figure, file in pngs.items()}
    write_text(page, render_page(outcome, analysis, figures, tables, images=embedded))
    return Report(page, [page, *(file for files in images.values() for file in files), *table_files], analysis)


def _write_figures(
    figures: list[Figure], outcome: Outcome, analysis: Analysis, folder: Path, note: Callable[[str], None]
) -> dict[str, list[Path]]:
    """Draw the figures and return the files of each, by name. Return {} if matplotlib is not installed."""
    styles = outcome_styles(outcome, analysis)
    heat_map = build_heat_map(analysis)
    try:
        drawn = {figure.name: draw_figure(figure, styles, folder) for figure in figures}
        return drawn if heat_map is None else {**drawn, heat_map.name: draw_heat_map(heat_map, folder)}
    except ImportError:
        note("no PNG and SVG figures: they need matplotlib; pip install 'gptzoo[plot]'")
        return {}


def _write_tables(
    tables: list[Table], outcome: Outcome, analysis: Analysis, folder: Path, note: Callable[[str], None]
) -> list[Path]:
    """Write the tables and return their files. Skip the Parquet files if pyarrow is not installed."""
    texts = {f"{table.name}.csv": table.as_csv() for table in tables}
    for paper in build_paper_tables(outcome, analysis):
        texts |= {f"{paper.name}.md": paper.as_markdown(), f"{paper.name}.tex": paper.as_latex()}
    files = []
    for name, text in texts.items():
        write_text(folder / name, text)
        files.append(folder / name)
    try:
        for table in tables:
            file = folder / f"{table.name}.parquet"
            table.write_parquet(file)
            files.append(file)
    except ImportError:
        note("no Parquet tables: they need pyarrow; pip install 'gptzoo[data]'")
    return files
