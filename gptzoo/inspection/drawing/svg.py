"""Drawings as SVG, with colours for light and dark pages."""

from __future__ import annotations

import html
from collections.abc import Iterable, Iterator, Mapping, Sequence

from gptzoo.inspection.drawing.layout import Circle, Line, Rectangle, Scene, Text

_LIGHT = {
    "page": "#ffffff",
    "ink": "#1f2328",
    "dim": "#59636e",
    "line": "#818b98",
    "frame": "#f6f8fa",
    "edge": "#d1d9e0",
    "module": "#eef1f4",
    "norm": "#e6f0ea",
    "sublayer": "#e4ecf7",
    "changed": "#fff3d6",
    "changed_ink": "#8a4b00",
}
_DARK = {
    "page": "#0d1117",
    "ink": "#e6edf3",
    "dim": "#9198a1",
    "line": "#768390",
    "frame": "#151b23",
    "edge": "#3d444d",
    "module": "#21262d",
    "norm": "#1b2e25",
    "sublayer": "#1b2a42",
    "changed": "#3d2e0a",
    "changed_ink": "#f0b95b",
}
_SANS = "ui-sans-serif, system-ui, 'Segoe UI', 'DejaVu Sans', sans-serif"
_MONO = "ui-monospace, SFMono-Regular, Menlo, Consolas, 'DejaVu Sans Mono', monospace"
_SPACE = 24  # between two drawings


def to_svg(scenes: Sequence[Scene], title: str, description: str, *, identifier: str = "gptzoo") -> str:
    """Return drawings side by side as one SVG image.

    title, description: texts for readers who do not see the image.
    identifier: prefix of identifiers, which must differ between images on one page.
    """
    width = sum(scene.width for scene in scenes) + _SPACE * (len(scenes) - 1)
    height = max(scene.height for scene in scenes)
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" class="gptzoo-drawing" role="img" viewBox="0 0 {width:g} {height:g}" '
        f'width="{width:g}" height="{height:g}" aria-labelledby="{identifier}-title {identifier}-text">',
        f'<title id="{identifier}-title">{html.escape(title)}</title>',
        f'<desc id="{identifier}-text">{html.escape(description)}</desc>',
        f"<style>{_style(_LIGHT)}@media (prefers-color-scheme: dark) {{{_colours(_DARK)}}}</style>",
        f'<marker id="{identifier}-head" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" '
        'orient="auto"><path class="gz-head" d="M0 0L8 4L0 8z"/></marker>',
        f'<rect class="gz-page" width="{width:g}" height="{height:g}"/>',
    ]
    x = 0.0
    for scene in scenes:
        lines += [f'<g transform="translate({x:g} 0)">', *_shapes(scene, identifier), "</g>"]
        x += scene.width + _SPACE
    return "\n".join([*lines, "</svg>\n"])


def _shapes(scene: Scene, identifier: str) -> Iterator[str]:
    for shape in scene.shapes:
        match shape:
            case Rectangle(x, y, width, height, style, is_changed):
                classes = _classes(f"gz-{style}", is_changed)
                yield f'<rect {classes} x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="6"/>'
            case Circle(x, y, radius, is_changed):
                yield f'<circle {_classes("gz-operation", is_changed)} cx="{x:g}" cy="{y:g}" r="{radius:g}"/>'
            case Line(path, has_head):
                head = f' marker-end="url(#{identifier}-head)"' if has_head else ""
                yield f'<path class="gz-line" d="{path}"{head}/>'
            case Text(x, y, text, style, ends_at_x, is_changed):
                anchor = ' text-anchor="end"' if ends_at_x else ""
                classes = _classes(f"gz-{style}", is_changed)
                yield f'<text {classes} x="{x:g}" y="{y:g}"{anchor} xml:space="preserve">{html.escape(text)}</text>'


def _classes(name: str, is_changed: bool) -> str:
    return f'class="{name}{" gz-changed" if is_changed else ""}"'


def _style(colours: Mapping[str, str]) -> str:
    fonts = {
        "gz-name": f"600 18px {_SANS}",
        "gz-title": f"600 13px {_SANS}",
        "gz-note": f"12px {_MONO}",
        "gz-label": f"12px {_MONO}",
    }
    rules = [f".{name} {{font: {font}}}" for name, font in fonts.items()]
    rules += [".gz-line {fill: none; stroke-width: 1.5}", "text.gz-changed {font-weight: 700}"]
    return "".join(rules) + _colours(colours)


def _colours(colours: Mapping[str, str]) -> str:
    return "".join(_colour_rules(colours))


def _colour_rules(colours: Mapping[str, str]) -> Iterable[str]:
    yield f".gz-page {{fill: {colours['page']}}}"
    yield f".gz-name, .gz-title {{fill: {colours['ink']}}}"
    yield f".gz-note, .gz-label {{fill: {colours['dim']}}}"
    yield f".gz-line {{stroke: {colours['line']}}}.gz-head {{fill: {colours['line']}}}"
    for name in ("frame", "module", "norm", "sublayer"):
        yield f".gz-{name} {{fill: {colours[name]}; stroke: {colours['edge']}}}"
    yield f".gz-operation {{fill: {colours['page']}; stroke: {colours['line']}; stroke-width: 1.5}}"
    yield f"rect.gz-changed, circle.gz-changed {{stroke: {colours['changed_ink']}; stroke-width: 2}}"
    yield f"rect.gz-changed:not(.gz-frame) {{fill: {colours['changed']}}}"
    yield f"text.gz-changed {{fill: {colours['changed_ink']}}}"
