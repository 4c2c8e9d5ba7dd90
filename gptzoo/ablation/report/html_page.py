"""The report as one self-contained HTML page. A script draws the figures; without it the tables are complete."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from importlib import resources

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

import gptzoo
from gptzoo.ablation.records.analysis import Analysis, Comparison
from gptzoo.ablation.records.outcome import Outcome, Variant
from gptzoo.ablation.records.trial import TrialOutcome
from gptzoo.ablation.report import palette
from gptzoo.ablation.report.figures import Figure
from gptzoo.ablation.report.formatting import format_interval, format_value
from gptzoo.ablation.report.ranking_table import ranking_columns, ranking_row, sort_value
from gptzoo.ablation.report.summary import headline, methods
from gptzoo.ablation.report.tables import Table
from gptzoo.ablation.warnings.tuning import tuned_variants
from gptzoo.ablation.wording import format_count, with_unit
from gptzoo.utils.units import scaled

_SCRIPTS = ("draw.js", "forest.js", "curves.js", "pareto.js", "page.js")
_FIGURE_DIGITS = 6  # significant digits of numbers that are only drawn


@dataclass(frozen=True)
class VariantDetails:
    """The data of a variant's card on the page."""

    variant: Variant
    comparison: Comparison | None  # None for the baseline
    trials: Sequence[TrialOutcome]


def render_page(
    outcome: Outcome,
    analysis: Analysis,
    figures: Sequence[Figure],
    tables: Sequence[Table],
    *,
    images: Mapping[str, bytes] | None = None,
    version: str = "",
) -> str:
    """Return the page.

    images: a PNG per figure, by the figure's name, for browsers without JavaScript.
    version: makes the page poll its server, `gptzoo.ablation.report.serve`, for another version. By default, the page
        makes no requests.
    """
    script = "\n".join(map(_asset, _SCRIPTS))
    stylesheet = _colour_variables() + _asset("page.css")
    styles = palette.line_styles([variant.name for variant in outcome.variants], outcome.baseline)
    data = {
        "figures": [_rounded(asdict(figure)) for figure in figures],
        "styles": {name: asdict(style) for name, style in styles.items()},
        "version": version,
    }
    compared = [comparison.variant for comparison in analysis.comparisons]
    order = list(dict.fromkeys([*analysis.ranking, outcome.baseline, *compared]))
    return _environment().get_template("page.html").render(
        outcome=outcome,
        analysis=analysis,
        policy=_content_security_policy(script, stylesheet, polls=bool(version)),
        stylesheet=Markup(stylesheet),
        script=Markup(script),
        # A `<` in a text must not end the script element that holds the data.
        data=Markup(json.dumps(data, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")),
        states=Counter(trial.state for trial in outcome.all_trials),
        headline=headline(outcome, analysis),
        findings=[comparison for comparison in analysis.comparisons if comparison.variant in outcome.compared],
        methods=methods(outcome, analysis),
        columns=ranking_columns(outcome),
        rows=[ranking_row(outcome, analysis, name, f"variant-{i}") for i, name in enumerate(order, 1)],
        figures=figures,
        images={name: _data_url(png, "image/png") for name, png in (images or {}).items()},
        variants=_variant_details(outcome, analysis, order),
        tuned=tuned_variants(outcome),
        samples=_samples_by_seed(outcome, order),
        downloads=_downloads(outcome, tables),
        gptzoo_version=gptzoo.__version__,
    )  # fmt: skip


def _variant_details(outcome: Outcome, analysis: Analysis, order: Sequence[str]) -> list[VariantDetails]:
    variants = {variant.name: variant for variant in outcome.variants}
    comparisons = {comparison.variant: comparison for comparison in analysis.comparisons}
    return [VariantDetails(variants[name], comparisons.get(name), outcome.trials_of(name)) for name in order]


def _samples_by_seed(outcome: Outcome, order: Sequence[str]) -> dict[int, dict[str, str]]:
    """Return the text samples by seed and variant, the baseline first."""
    samples: dict[int, dict[str, str]] = {}
    for name in dict.fromkeys([outcome.baseline, *order]):
        for trial in outcome.trials_of(name):
            if trial.sample:
                samples.setdefault(trial.seed, {})[name] = trial.sample
    return dict(sorted(samples.items()))


def _downloads(outcome: Outcome, tables: Iterable[Table]) -> dict[str, str]:
    """Return the ablation spec and the tables as data URLs by file name, without the curves, which are too long."""
    files = {f"{table.name}.csv": table.as_csv() for table in tables if table.rows and table.name != "curves"}
    return {
        "ablation.json": _data_url(_json(outcome.spec).encode(), "application/json"),
        **{name: _data_url(text.encode(), "text/csv") for name, text in files.items()},
    }


def _content_security_policy(script: str, stylesheet: str, *, polls: bool) -> str:
    """Return a policy that forbids the page to load anything or to run any code besides its own."""
    rules = {
        "default-src": "'none'",
        "script-src": _csp_hash(script),
        "style-src": _csp_hash(stylesheet),
        "img-src": "data:",
        "base-uri": "'none'",
        "form-action": "'none'",
    }
    if polls:
        rules["connect-src"] = "'self'"
    return "; ".join(f"{name} {value}" for name, value in rules.items())


def _csp_hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _colour_variables() -> str:
    """Return the CSS variables of the light and dark colour schemes. Print always uses the light one."""

    def rules(scheme: str, colours: Sequence[str], others: str) -> str:
        numbered = " ".join(f"--c{index}: {colour};" for index, colour in enumerate(colours))
        background, ink = palette.BACKGROUND[scheme], palette.INK[scheme]
        return f":root {{ --panel: {background}; --ink: {ink}; {numbered} {others} }}"

    light = "--page: #f7f7f5; --quiet: #5f6878; --line: #e3e6eb; --shade: #eff1f4; --better: #0a6b52; --worse: #b3421a;"
    dark = "--page: #12151b; --quiet: #a0a9b8; --line: #2c323d; --shade: #252b36; --better: #3cc79b; --worse: #ff9b6b;"
    return (
        f":root {{ color-scheme: light dark; }}\n{rules('light', palette.LIGHT, light)}\n"
        f"@media screen and (prefers-color-scheme: dark) {{ {rules('dark', palette.DARK, dark)} }}\n"
    )


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("gptzoo.ablation.report", "assets"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "slug": lambda text: re.sub(r"[^\w.]+", "-", text).strip("-"),
        "with_unit": with_unit,
        "scaled": scaled,
        "format_count": format_count,
        "format_value": format_value,
        "format_interval": format_interval,
        "sort_value": sort_value,
        "json": _json,
    }
    return environment


@cache
def _asset(name: str) -> str:
    return resources.files("gptzoo.ablation.report").joinpath("assets", name).read_text(encoding="utf-8")


def _json(value: object) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False)


def _data_url(content: bytes, media_type: str) -> str:
    return f"data:{media_type};base64,{base64.b64encode(content).decode()}"


def _rounded(value: object) -> object:
    """Round all floats in a JSON value."""
    if isinstance(value, float):
        return float(f"{value:.{_FIGURE_DIGITS}g}")
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    return [_rounded(item) for item in value] if isinstance(value, list | tuple) else value
