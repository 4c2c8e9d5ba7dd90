"""The frame of report pages: one HTML file with its stylesheet, scripts and the data of its figures."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import cache
from importlib import resources

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

import gptzoo
from gptzoo.ablation.report import palette
from gptzoo.ablation.report.figures.figure import Figure
from gptzoo.ablation.report.figures.task_figures import N_SHADES
from gptzoo.ablation.report.formatting import format_interval, format_value
from gptzoo.ablation.report.ranking_table import sort_value
from gptzoo.ablation.wording import better_direction, format_count, with_unit
from gptzoo.utils.units import scaled

_SCRIPTS = ("draw.js", "forest.js", "curves.js", "pareto.js", "scaling.js", "states.js", "page.js")
_FIGURE_DIGITS = 6  # significant digits of numbers that are only drawn


def render(
    template: str,
    *,
    figures: Sequence[Figure],
    styles: Mapping[str, palette.LineStyle],
    images: Mapping[str, bytes] | None,
    version: str,
    **values: object,
) -> str:
    """Return a page from one of the templates in `assets`, which extend frame.html.

    styles: the line style of each variant in the figures.
    images: a PNG per figure, by the figure's name, for browsers without JavaScript.
    version: makes the page poll its server, `gptzoo.ablation.report.serve`, for another version. With "", the page
        makes no requests.
    values: further variables of the template.
    """
    script = "\n".join(map(_asset, _SCRIPTS))
    stylesheet = _colour_variables() + _shades() + _asset("page.css")
    data = {
        "figures": [_rounded(asdict(figure)) for figure in figures],
        "styles": {name: asdict(style) for name, style in styles.items()},
        "version": version,
    }
    return _environment().get_template(template).render(
        policy=_content_security_policy(script, stylesheet, polls=bool(version)),
        stylesheet=Markup(stylesheet),
        script=Markup(script),
        # A `<` in a text must not end the script element that holds the data.
        data=Markup(json.dumps(data, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")),
        figures=figures,
        images={name: data_url(png, "image/png") for name, png in (images or {}).items()},
        gptzoo_version=gptzoo.__version__,
        **values,
    )  # fmt: skip


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


def _shades() -> str:
    """Return the colours of the heat map's cells. The darkest still has a readable text in the ink's colour."""
    rules = (
        f".shade-{shade} {{ background: color-mix(in srgb, var(--better) {5 * shade}%, var(--panel)); }}"
        for shade in range(N_SHADES + 1)
    )
    return "\n".join(rules) + "\n"


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
        "better_direction": better_direction,
        "with_unit": with_unit,
        "scaled": scaled,
        "format_count": format_count,
        "format_value": format_value,
        "format_interval": format_interval,
        "sort_value": sort_value,
        "json": json_text,
        "shell": shlex.quote,
    }
    return environment


@cache
def _asset(name: str) -> str:
    return resources.files("gptzoo.ablation.report").joinpath("assets", name).read_text(encoding="utf-8")


def json_text(value: object) -> str:
    """Return indented JSON."""
    return json.dumps(value, indent=2, ensure_ascii=False)


def data_url(content: bytes, media_type: str) -> str:
    """Return a data URL with some content."""
    return f"data:{media_type};base64,{base64.b64encode(content).decode()}"


def _rounded(value: object) -> object:
    """Round all floats in a JSON value."""
    if isinstance(value, float):
        return float(f"{value:.{_FIGURE_DIGITS}g}")
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    return [_rounded(item) for item in value] if isinstance(value, list | tuple) else value
