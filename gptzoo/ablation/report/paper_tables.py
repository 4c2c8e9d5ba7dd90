"""The ranking as a table for a paper or README: LaTeX (booktabs) and Markdown."""

from __future__ import annotations

from collections.abc import Sequence

from gptzoo.ablation.records.analysis import Analysis
from gptzoo.ablation.records.outcome import Outcome
from gptzoo.ablation.report.formatting import MISSING, format_estimate, format_p_value
from gptzoo.ablation.report.summary import methods
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
    "–": "--",
    "…": r"\dots{}",
}


def markdown_table(outcome: Outcome, analysis: Analysis) -> str:
    """Return the ranking in Markdown, followed by the methods paragraph and the notes."""
    header, rows = _cells(outcome, analysis)
    lines = [header, ["---", *["---:"] * (len(header) - 2), "---"], *rows]
    table = "\n".join("| " + " | ".join(_escape_markdown(cell) for cell in line) + " |" for line in lines)
    notes = "".join(f"- {_on_one_line(note)}\n" for note in _caveats(analysis))
    return f"{table}\n\n{analysis.trained} {methods(outcome, analysis)}\n" + (f"\n{notes}" if notes else "")


def latex_table(outcome: Outcome, analysis: Analysis) -> str:
    r"""Return a LaTeX `table` for \input, with methods and notes as its caption. It needs \usepackage{booktabs}."""
    header, rows = _cells(outcome, analysis)
    caption = " ".join([analysis.trained, methods(outcome, analysis), *_caveats(analysis)])
    lines = [
        r"% \usepackage{booktabs}",
        r"\begin{table}",
        r"  \centering",
        rf"  \caption{{{escape_tex(_on_one_line(caption))}}}",
        rf"  \label{{tab:{_tex_label(outcome.name)}}}",
        rf"  \begin{{tabular}}{{l{'r' * (len(header) - 2)}l}}",
        r"    \toprule",
        "    " + _tex_row(header),
        r"    \midrule",
        *("    " + _tex_row(row) for row in rows),
        r"    \bottomrule",
        r"  \end{tabular}",
        r"\end{table}",
    ]
    return "\n".join(lines) + "\n"


def _caveats(analysis: Analysis) -> list[str]:
    return [*(f"Warning: {warning.text}" for warning in analysis.warnings), *analysis.notes]


def escape_tex(text: str) -> str:
    """Escape the characters that are special in TeX."""
    return "".join(_TEX_ESCAPES.get(char, char) for char in text)


def _cells(outcome: Outcome, analysis: Analysis) -> tuple[list[str], list[list[str]]]:
    """Return the header and the rows of the ranking."""
    header = ["variant", with_unit(outcome.metric), "seeds", "difference", "p (Holm)", "parameters", "verdict"]
    variants = {variant.name: variant for variant in outcome.variants}
    comparisons = {comparison.variant: comparison for comparison in analysis.comparisons}
    rows = []
    for name in [*analysis.ranking, *(name for name in variants if name not in analysis.ranking)]:
        estimate, comparison = analysis.ranking.get(name), comparisons.get(name)
        n_trials = len(outcome.trials_of(name))
        rows.append(
            [
                name,
                format_estimate(estimate),
                f"{estimate.n if estimate else 0}/{n_trials}" if n_trials else MISSING,
                format_estimate(comparison.difference) if comparison else MISSING,
                format_p_value(comparison.p_adjusted) if comparison else MISSING,
                scaled(variants[name].n_parameters).strip(),
                comparison.verdict if comparison else "baseline",
            ]
        )
    return header, rows


def _tex_row(cells: Sequence[str]) -> str:
    return " & ".join(map(escape_tex, cells)) + r" \\"


def _tex_label(name: str) -> str:
    return "".join(char if char.isalnum() and char.isascii() else "-" for char in name)


def _escape_markdown(cell: str) -> str:
    return _on_one_line(cell).replace("\\", "\\\\").replace("|", r"\|").replace("<", "&lt;")


def _on_one_line(text: str) -> str:
    return " ".join(text.split())
