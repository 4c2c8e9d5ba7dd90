"""The ranked table for a paper or a README: LaTeX with booktabs, and Markdown."""

from __future__ import annotations

from collections.abc import Sequence

from gptzoo.ablation.records.analysis import Analysis
from gptzoo.ablation.records.outcome import Outcome
from gptzoo.ablation.report.methods import methods
from gptzoo.ablation.report.shown import NOTHING, interval, p_value, with_unit
from gptzoo.utils.units import scaled

_SPECIAL = {
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


def markdown(outcome: Outcome, analysis: Analysis) -> str:
    """The table, and below it what its numbers mean and what a reader must know."""
    header, rows = _cells(outcome, analysis)
    lines = [header, ["---", *["---:"] * (len(header) - 2), "---"], *rows]
    table = "\n".join("| " + " | ".join(_escaped(cell) for cell in line) + " |" for line in lines)
    notes = "".join(f"- {_flat(note)}\n" for note in analysis.notes)
    return f"{table}\n\n{methods(outcome, analysis)}\n" + (f"\n{notes}" if notes else "")


def latex(outcome: Outcome, analysis: Analysis) -> str:
    r"""A `table` for \input; the preamble needs \usepackage{booktabs}. What a reader must know is in the caption."""
    header, rows = _cells(outcome, analysis)
    said = " ".join([methods(outcome, analysis), *analysis.notes])
    lines = [
        r"% \usepackage{booktabs}",
        r"\begin{table}",
        r"  \centering",
        rf"  \caption{{{tex(_flat(said))}}}",
        rf"  \label{{tab:{_label(outcome.name)}}}",
        rf"  \begin{{tabular}}{{l{'r' * (len(header) - 2)}l}}",
        r"    \toprule",
        "    " + _row(header),
        r"    \midrule",
        *("    " + _row(row) for row in rows),
        r"    \bottomrule",
        r"  \end{tabular}",
        r"\end{table}",
    ]
    return "\n".join(lines) + "\n"


def tex(text: str) -> str:
    """The text with what is special to TeX escaped."""
    return "".join(_SPECIAL.get(char, char) for char in text)


def _cells(outcome: Outcome, analysis: Analysis) -> tuple[list[str], list[list[str]]]:
    header = ["variant", with_unit(outcome.metric), "seeds", "difference", "p (Holm)", "parameters", "verdict"]
    variants = {variant.name: variant for variant in outcome.variants}
    comparisons = {one.variant: one for one in analysis.comparisons}
    rows = []
    for name in [*analysis.ranking, *(name for name in variants if name not in analysis.ranking)]:
        estimate, one, n_trials = analysis.ranking.get(name), comparisons.get(name), len(outcome.trials_of(name))
        rows.append(
            [
                name,
                interval(estimate),
                f"{estimate.n if estimate else 0}/{n_trials}" if n_trials else NOTHING,
                interval(one.difference) if one else NOTHING,
                p_value(one.p_adjusted) if one else NOTHING,
                scaled(variants[name].n_parameters).strip(),
                one.verdict if one else "baseline",
            ]
        )
    return header, rows


def _row(cells: Sequence[str]) -> str:
    return " & ".join(map(tex, cells)) + r" \\"


def _label(name: str) -> str:
    return "".join(char if char.isalnum() and char.isascii() else "-" for char in name)


def _escaped(cell: str) -> str:
    return _flat(cell).replace("\\", "\\\\").replace("|", r"\|").replace("<", "&lt;")


def _flat(text: str) -> str:
    return " ".join(text.split())
