"""The colours and line styles of variants, the same in all figures and distinguishable with colour blindness."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from gptzoo.ablation.records.analysis import Analysis
from gptzoo.ablation.records.outcome import Outcome

# Found by a search for the largest minimum distance between two colours (in OKLab, with normal vision, protanopia,
# deuteranopia and tritanopia), with a contrast of at least 3 : 1 to the background. The tests measure both.
LIGHT = ("#395896", "#b8711a", "#149576", "#f25daf", "#645e00", "#3f039a")
DARK = ("#5d94fe", "#c04e0a", "#098571", "#f490a4", "#eee451", "#bfb7ff")
BACKGROUND = {"light": "#ffffff", "dark": "#191d25"}
INK = {"light": "#1d2430", "dark": "#e6e9ef"}
DASHES = ("", "6 3", "1.5 2.5")  # SVG stroke-dasharray: lengths of dashes and gaps


@dataclass(frozen=True)
class LineStyle:
    """The style of a variant."""

    colour: int | None  # index into LIGHT and DARK; None for the baseline, which has the text colour
    dash: str  # an entry of DASHES


def outcome_styles(outcome: Outcome, analysis: Analysis) -> dict[str, LineStyle]:
    """Return the styles of all variants and, for figures of tasks, of their models."""
    models = {result.variant: result.model for result in analysis.tasks}
    of_models = line_styles(list(dict.fromkeys(models.values())), models[outcome.baseline]) if models else {}
    return {**of_models, **line_styles([variant.name for variant in outcome.variants], outcome.baseline)}


def line_styles(variants: Sequence[str], baseline: str) -> dict[str, LineStyle]:
    """Assign a style to each variant.

    Styles depend on the order of the variants and not on their ranking, so they stay the same while an ablation runs.
    """
    styles = {baseline: LineStyle(None, "")}
    for index, name in enumerate(name for name in variants if name != baseline):
        dash, colour = divmod(index, len(LIGHT))
        styles[name] = LineStyle(colour, DASHES[dash % len(DASHES)])
    return styles
