"""Tables for a paper or README: the ranking and the scores on tasks, in LaTeX (booktabs) and Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from gptzoo.ablation.records.analysis import Analysis
from gptzoo.ablation.records.outcome import Outcome
from gptzoo.ablation.report.figures.task_figures import HeatCell, HeatMap, build_heat_map
from gptzoo.ablation.report.formatting import MISSING, format_estimate, format_p_value
from gptzoo.ablation.report.summary import methods, score_methods
from gptzoo.ablation.statistics.cost_sentences import describe_multiple
from gptzoo.ablation.statistics.task_scores import score_notes
from gptzoo.ablation.wording import with_unit
from gptzoo.utils.units import scaled

_TEX_ESCAPES = {
    **{char: rf"\{char}" for char in "&%$#_{}"},
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"$<$",
    ">": r"$>$",
    "−": r"$-$",
    "±": r"$\pm$",
    "×": r"$\times$",
    "Δ": r"$\Delta$",
    "α": r"$\alpha$",
    "↑": r"$\uparrow$",
    "↓": r"$\downarrow$",
    "–": "--",
    "…": r"\dots{}",
}


@dataclass(frozen=True)
class PaperTable:
    """A table of formatted cells. Columns of text are aligned to the left, those of numbers to the right."""

    name: str  # base name of the files
    label: str  # of the LaTeX table, after "tab:"
    alignment: str  # "l" or "r" for each column
    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    methods: str
    notes: Sequence[str]

    def as_markdown(self) -> str:
        """Return the table in Markdown, followed by the methods paragraph and the notes."""
        lines = [self.header, ["---:" if side == "r" else "---" for side in self.alignment], *self.rows]
        table = "\n".join("| " + " | ".join(_escape_markdown(cell) for cell in line) + " |" for line in lines)
        notes = "".join(f"- {_on_one_line(note)}\n" for note in self.notes)
        return f"{table}\n\n{self.methods}\n" + (f"\n{notes}" if notes else "")

    def as_latex(self) -> str:
        r"""Return a LaTeX `table` for \input. It needs \usepackage{booktabs}. The caption has methods and notes."""
        caption = " ".join([self.methods, *self.notes])
        lines = [
            r"% \usepackage{booktabs}",
            r"\begin{table}",
            r"  \centering",
            rf"  \caption{{{escape_tex(_on_one_line(caption))}}}",
            rf"  \label{{tab:{_tex_label(self.label)}}}",
            rf"  \begin{{tabular}}{{{self.alignment}}}",
            r"    \toprule",
            "    " + _tex_row(self.header),
            r"    \midrule",
            *("    " + _tex_row(row) for row in self.rows),
            r"    \bottomrule",
            r"  \end{tabular}",
            r"\end{table}",
        ]
        return "\n".join(lines) + "\n"


def build_paper_tables(outcome: Outcome, analysis: Analysis) -> list[PaperTable]:
    """Return the ranking, the scores if trials are scored on tasks, and the results on synthetic tasks if any."""
    tables = [_ranking(outcome, analysis)]
    if analysis.scores:
        tables.append(_scores(outcome, analysis))
    if (heat_map := build_heat_map(analysis)) is not None:
        tables.append(_tasks(outcome, analysis, heat_map))
    return tables


def _caveats(analysis: Analysis) -> list[str]:
    return [*map(str, analysis.warnings), *analysis.notes]


def escape_tex(text: str) -> str:
    """Escape the characters that are special in TeX."""
    return "".join(_TEX_ESCAPES.get(char, char) for char in text)


def _ranking(outcome: Outcome, analysis: Analysis) -> PaperTable:
    """Return a row for each variant, best first."""
    header = ["variant", with_unit(outcome.metric), "seeds", "difference", "p (Holm)", "parameters", "verdict"]
    header += ["cost to reach"] if outcome.baseline_lengths else []
    costs = {cost.variant: describe_multiple(cost) for cost in analysis.costs}
    variants = {variant.name: variant for variant in outcome.variants}
    comparisons = {comparison.variant: comparison for comparison in analysis.comparisons}
    rows = []
    for name in [*analysis.ranking, *(name for name in variants if name not in analysis.ranking)]:
        estimate, comparison = analysis.ranking.get(name), comparisons.get(name)
        rows.append(
            [
                name,
                format_estimate(estimate),
                _seeds(outcome, name, estimate.n if estimate else 0),
                format_estimate(comparison.difference) if comparison else MISSING,
                format_p_value(comparison.p_adjusted) if comparison else MISSING,
                scaled(variants[name].n_parameters).strip(),
                comparison.verdict if comparison else "baseline",
                *([costs.get(name, MISSING)] if outcome.baseline_lengths else []),
            ]
        )
    text = f"{analysis.trained} {methods(outcome, analysis)}"
    return PaperTable(
        "ranking", outcome.name, "lrrrrrl" + "r" * (len(header) - 7), header, rows, text, _caveats(analysis)
    )


def _scores(outcome: Outcome, analysis: Analysis) -> PaperTable:
    """Return a row for each variant in each metric of a task."""
    header = ["task", "metric", "variant", "score", "seeds", "difference", "p (Holm)", "verdict"]
    rows = [
        [
            score.task,
            f"{score.metric} {'↑' if score.higher_is_better else '↓'}",
            score.variant,
            format_estimate(score.mean),
            _seeds(outcome, score.variant, len(score.values)),
            format_estimate(score.difference),
            format_p_value(score.p_adjusted),
            score.verdict or "baseline",
        ]
        for score in analysis.scores
    ]
    label, notes = f"{outcome.name}-scores", [*map(str, analysis.warnings), *score_notes(outcome)]
    text = f"{analysis.trained} {score_methods(outcome, analysis)}"
    return PaperTable("scores", label, "lllrrrrl", header, rows, text, notes)


def _tasks(outcome: Outcome, analysis: Analysis, heat_map: HeatMap) -> PaperTable:
    """Return the heat map as a row for each model and a column for each task."""
    header = ["model", *(f"{column.title} ({column.subtitle})" for column in heat_map.columns)]
    rows = [
        [model, *(MISSING if cell is None else _task_cell(cell) for cell in cells)]
        for model, cells in heat_map.rows.items()
    ]
    alignment = "l" + "r" * len(heat_map.columns)
    text = f"{analysis.trained} {heat_map.title}. {heat_map.caption}"
    return PaperTable("tasks", f"{outcome.name}-tasks", alignment, header, rows, text, _caveats(analysis))


def _task_cell(cell: HeatCell) -> str:
    interval = f" ({cell.interval})" if cell.interval else ""
    return f"{cell.text}{interval}, {cell.solved}"


def _seeds(outcome: Outcome, variant: str, n: int) -> str:
    """Return the number of trials with a result, of all trials of a variant."""
    n_trials = len(outcome.trials_of(variant))
    return f"{n}/{n_trials}" if n_trials else MISSING


def _tex_row(cells: Sequence[str]) -> str:
    return " & ".join(map(escape_tex, cells)) + r" \\"


def _tex_label(name: str) -> str:
    return "".join(char if char.isalnum() and char.isascii() else "-" for char in name)


def _escape_markdown(cell: str) -> str:
    return _on_one_line(cell).replace("\\", "\\\\").replace("|", r"\|").replace("<", "&lt;")


def _on_one_line(text: str) -> str:
    return " ".join(text.split())
