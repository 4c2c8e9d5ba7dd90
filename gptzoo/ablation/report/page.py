"""One page in HTML that needs nothing beside itself: its own script draws the figures, tables can do without it."""

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
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

import gptzoo
from gptzoo.ablation.records.analysis import Analysis, Comparison, Estimate
from gptzoo.ablation.records.outcome import Outcome, Variant
from gptzoo.ablation.records.trial import TrialOutcome
from gptzoo.ablation.report import palette, shown
from gptzoo.ablation.report.figures import Figure
from gptzoo.ablation.report.methods import headline, methods
from gptzoo.ablation.report.tables import Table
from gptzoo.utils.units import scaled

_SCRIPTS = ("draw.js", "forest.js", "curves.js", "plane.js", "page.js")
_DIGITS = 6  # of numbers that are only drawn


@dataclass(frozen=True)
class Column:
    """Of the ranking, as it is headed."""

    title: str
    help: str
    numeric: bool = True


@dataclass(frozen=True)
class Cell:
    """What is read, and the value by which it sorts, whole."""

    text: str
    value: str
    numeric: bool = True
    interval: str = ""
    verdict: str = ""
    link: str = ""


@dataclass(frozen=True)
class Card:
    """All that is known of a variant."""

    variant: Variant
    comparison: Comparison | None  # None for the baseline
    trials: Sequence[TrialOutcome]


def page(
    outcome: Outcome,
    analysis: Analysis,
    figures: Sequence[Figure],
    tables: Sequence[Table],
    *,
    pictures: Mapping[str, bytes] | None = None,
    version: str = "",
) -> str:
    """The page. `pictures`: PNG by the name of a figure, for readers without scripts.

    A `version` makes the page ask its server (`gptzoo.ablation.report.serve`) for another; without it, it asks nobody.
    """
    script = "\n".join(map(_asset, _SCRIPTS))
    style = _colours() + _asset("page.css")
    looks = palette.looks([variant.name for variant in outcome.variants], outcome.baseline)
    data = {
        "figures": [_rounded(asdict(figure)) for figure in figures],
        "looks": {name: asdict(look) for name, look in looks.items()},
        "version": version,
    }
    told = [one.variant for one in analysis.comparisons]
    order = list(dict.fromkeys([*analysis.ranking, outcome.baseline, *told]))
    return _environment().get_template("page.html").render(
        outcome=outcome,
        analysis=analysis,
        policy=_policy(script, style, follows=bool(version)),
        style=Markup(style),
        script=Markup(script),
        # A `<` in a text must not end the script that the data stands in.
        data=Markup(json.dumps(data, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")),
        states=Counter(trial.state for trial in outcome.trials),
        headline=headline(outcome, analysis),
        findings=[one for one in analysis.comparisons if one.variant in outcome.compared],
        methods=methods(outcome, analysis),
        columns=_columns(outcome),
        rows=[_row(outcome, analysis, name, f"variant-{i}") for i, name in enumerate(order, 1)],
        figures=figures,
        pictures={name: _link(png, "image/png") for name, png in (pictures or {}).items()},
        cards=_cards(outcome, analysis, order),
        samples=_samples(outcome, order),
        downloads=_downloads(outcome, tables),
        gptzoo_version=gptzoo.__version__,
    )  # fmt: skip


def _columns(outcome: Outcome) -> list[Column]:
    many = "corrected for all comparisons (Holm)"
    return [
        Column("variant", "", numeric=False),
        Column(outcome.metric, "mean over seeds, with its confidence interval by itself"),
        Column("seeds", "trials that ended well, of all"),
        Column("difference", f"from {outcome.baseline}; below 0 is better; interval {many}"),
        Column("verdict", "read off the interval of the difference", numeric=False),
        Column("p", f"of no difference at all, {many}"),
        Column("effect", "the difference in standard deviations over seeds"),
        Column(
            "detectable", f"the smallest true difference found with a power of {outcome.power:.0%} with this many seeds"
        ),
        Column("parameters", ""),
        Column("FLOPs/token", "of a training step"),
    ]


def _row(outcome: Outcome, analysis: Analysis, name: str, link: str) -> dict[str, Any]:
    variant = next(each for each in outcome.variants if each.name == name)
    one = next((each for each in analysis.comparisons if each.variant == name), None)
    mean, difference = analysis.ranking.get(name), one.difference if one else None
    verdict, n = one.verdict if one else "baseline", mean.n if mean else 0
    p, effect, detectable = (one.p_adjusted, one.effect_size, one.detectable) if one else (None, None, None)
    flops = variant.flops_per_token
    cells = [
        Cell(name, name, numeric=False, link=link),
        _estimated(mean),
        Cell(f"{n}/{n_trials}" if (n_trials := len(outcome.trials_of(name))) else shown.NOTHING, str(n)),
        _estimated(difference),
        Cell("", verdict, numeric=False, verdict=verdict),
        Cell(shown.p_value(p), _number(p)),
        Cell(shown.measure(effect), _number(effect)),
        Cell(shown.measure(detectable), _number(detectable)),
        Cell(scaled(variant.n_parameters), _number(variant.n_parameters)),
        Cell(shown.NOTHING if flops is None else scaled(flops), _number(flops)),
    ]
    return {"name": name, "cells": cells}


def _estimated(estimate: Estimate | None) -> Cell:
    return Cell(shown.value(estimate), _number(estimate.value if estimate else None), interval=shown.ends(estimate))


def _cards(outcome: Outcome, analysis: Analysis, order: Sequence[str]) -> list[Card]:
    variants = {variant.name: variant for variant in outcome.variants}
    comparisons = {one.variant: one for one in analysis.comparisons}
    return [Card(variants[name], comparisons.get(name), outcome.trials_of(name)) for name in order]


def _samples(outcome: Outcome, order: Sequence[str]) -> dict[int, dict[str, str]]:
    """Texts by seed and variant, the baseline first."""
    found: dict[int, dict[str, str]] = {}
    for name in dict.fromkeys([outcome.baseline, *order]):
        for trial in outcome.trials_of(name):
            if trial.sample:
                found.setdefault(trial.seed, {})[name] = trial.sample
    return dict(sorted(found.items()))


def _downloads(outcome: Outcome, tables: Iterable[Table]) -> dict[str, str]:
    """The settings and the tables, in the page itself: it may have come alone. Curves are too long for that."""
    files = {f"{table.name}.csv": table.as_csv() for table in tables if table.rows and table.name != "curves"}
    return {
        "ablation.json": _link(_json(outcome.spec).encode(), "application/json"),
        **{name: _link(text.encode(), "text/csv") for name, text in files.items()},
    }


def _policy(script: str, style: str, *, follows: bool) -> str:
    """Of the security of its content: nothing is loaded, and nothing runs but what the page came with."""
    rules = {
        "default-src": "'none'",
        "script-src": _hash(script),
        "style-src": _hash(style),
        "img-src": "data:",
        "base-uri": "'none'",
        "form-action": "'none'",
    }
    if follows:
        rules["connect-src"] = "'self'"
    return "; ".join(f"{name} {value}" for name, value in rules.items())


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _colours() -> str:
    """The colours of both schemes; paper is light."""

    def rules(scheme: str, colours: Sequence[str], rest: str) -> str:
        numbered = " ".join(f"--c{index}: {colour};" for index, colour in enumerate(colours))
        return f":root {{ --panel: {palette.GROUND[scheme]}; --ink: {palette.INK[scheme]}; {numbered} {rest} }}"

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
        "with_unit": shown.with_unit,
        "scaled": scaled,
        "value": shown.value,
        "ends": shown.ends,
        "number": _number,
        "json": _json,
    }
    return environment


@cache
def _asset(name: str) -> str:
    return resources.files("gptzoo.ablation.report").joinpath("assets", name).read_text(encoding="utf-8")


def _json(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False)


def _number(value: float | None) -> str:
    return "" if value is None else repr(value)


def _link(content: bytes, media_type: str) -> str:
    return f"data:{media_type};base64,{base64.b64encode(content).decode()}"


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.{_DIGITS}g}")
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    return [_rounded(item) for item in value] if isinstance(value, list | tuple) else value
