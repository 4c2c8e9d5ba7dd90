"""Report files: the HTML page, figures as PNG and SVG, and tables for programs and for papers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from gptzoo.ablation.records.analysis import Analysis
from gptzoo.ablation.records.outcome import Outcome
from gptzoo.ablation.report.figures.figure import Figure, build_figures
from gptzoo.ablation.report.figures.static_figures import draw_figure, draw_heat_map
from gptzoo.ablation.report.figures.task_figures import HeatMap, build_heat_map
from gptzoo.ablation.report.html_page import render_page
from gptzoo.ablation.report.ladder_page import read_ladder_page
from gptzoo.ablation.report.palette import LineStyle, outcome_styles
from gptzoo.ablation.report.paper_tables import build_paper_tables
from gptzoo.ablation.report.tables import Table, build_tables
from gptzoo.ablation.report.without_paths import without_paths
from gptzoo.ablation.scaling.result import LadderResult
from gptzoo.ablation.statistics.analyse import analyse
from gptzoo.errors import FolderError
from gptzoo.terminal.activity import each
from gptzoo.utils.atomic import write_text

Note = Callable[[str], None]


@dataclass(frozen=True)
class Report:
    """The files of a report and the analysis they show."""

    page: Path
    files: list[Path]  # all files, the page first
    analysis: Analysis


@dataclass(frozen=True)
class LadderReport:
    """The files of the report of a ladder and the result they show."""

    page: Path
    files: list[Path]  # all files, the page first
    result: LadderResult


def write_report(outcome: Outcome, folder: str | Path, *, note: Note = lambda text: None) -> Report:
    """Analyse an ablation, running or done, and write its report into a folder. Existing files are replaced.

    The files are report.html, figures/*.png and *.svg, tables/*.csv and *.parquet, tables/ranking.md and ranking.tex,
    with scores on tasks of lm-evaluation-harness tables/scores.md and scores.tex, and with synthetic tasks
    tables/tasks.md and tasks.tex. They have neither folder names nor the name of the host.

    note: called with a message for each kind of file that needs a package that is not installed.

    Raises FolderError if the folder cannot be written.
    """
    analysis = without_paths(analyse(outcome))
    outcome = without_paths(outcome)
    figures, tables = build_figures(outcome, analysis), build_tables(outcome, analysis)
    styles = outcome_styles(outcome, analysis)
    texts: dict[str, str] = {}
    for paper in build_paper_tables(outcome, analysis):
        texts |= {f"{paper.name}.md": paper.as_markdown(), f"{paper.name}.tex": paper.as_latex()}

    def page(images: Mapping[str, bytes]) -> str:
        return render_page(outcome, analysis, figures, tables, images=images)

    files = _write_files(Path(folder), page, figures, build_heat_map(analysis), styles, tables, texts, note)
    return Report(files[0], files, analysis)


def write_ladder_report(ladder: str | Path, folder: str | Path, *, note: Note = lambda text: None) -> LadderReport:
    """Read a scaling ladder, running or done, from its folder and write its report into another one.

    The files are report.html, figures/*.png and *.svg, and tables/*.csv and *.parquet. They have neither folder names
    nor the name of the host. `note` is that of `write_report`.

    Raises FolderError if `ladder` is not the folder of a ladder, or if the files cannot be written.
    """
    contents, result = read_ladder_page(Path(ladder))

    def page(images: Mapping[str, bytes]) -> str:
        return contents.render(images=images)

    files = _write_files(Path(folder), page, contents.figures, None, contents.styles, contents.tables, {}, note)
    return LadderReport(files[0], files, result)


def _write_files(
    folder: Path,
    page: Callable[[Mapping[str, bytes]], str],
    figures: list[Figure],
    heat_map: HeatMap | None,
    styles: Mapping[str, LineStyle],
    tables: list[Table],
    texts: Mapping[str, str],
    note: Note,
) -> list[Path]:
    """Write a report, and return its files, the page first. `page` renders it with a PNG of each figure."""
    try:
        for subfolder in ("figures", "tables"):
            (folder / subfolder).mkdir(parents=True, exist_ok=True)
        images = _write_figures(figures, heat_map, styles, folder / "figures", note)
        table_files = _write_tables(tables, texts, folder / "tables", note)
        # The page embeds the first PNG of each figure.
        pngs = {figure: next(file for file in files if file.suffix == ".png") for figure, files in images.items()}
        html = folder / "report.html"
        write_text(html, page({figure: file.read_bytes() for figure, file in pngs.items()}))
    except OSError as error:
        raise FolderError(
            f"{error.filename or folder}: cannot be written: {error.strerror}; choose another --out"
        ) from error
    return [html, *(file for files in images.values() for file in files), *table_files]


def _write_figures(
    figures: list[Figure], heat_map: HeatMap | None, styles: Mapping[str, LineStyle], folder: Path, note: Note
) -> dict[str, list[Path]]:
    """Draw the figures and return the files of each, by name. Return {} if matplotlib is not installed."""
    try:
        named = each(figures, "drawing the figures of the report")
        drawn = {figure.name: draw_figure(figure, styles, folder) for figure in named}
        return drawn if heat_map is None else {**drawn, heat_map.name: draw_heat_map(heat_map, folder)}
    except ImportError:
        note("no PNG and SVG figures: they need matplotlib; pip install 'gptzoo[plot]'")
        return {}


def _write_tables(tables: list[Table], texts: Mapping[str, str], folder: Path, note: Note) -> list[Path]:
    """Write the tables and return their files. Skip the Parquet files if pyarrow is not installed."""
    files = []
    for name, text in {**{f"{table.name}.csv": table.as_csv() for table in tables}, **texts}.items():
        write_text(folder / name, text)
        files.append(folder / name)
    try:
        for table in tables:
            file = folder / f"{table.name}.parquet"
            table.write_parquet(file)
            files.append(file)
    except ImportError:
        note("the tables are not written as Parquet, which needs pyarrow: pip install 'gptzoo[data]'")
    return files
