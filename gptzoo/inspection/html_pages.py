"""Self-contained HTML pages, which work offline and from a file."""

from __future__ import annotations

import base64
import html
from collections.abc import Mapping
from importlib import resources
from typing import Any

import numpy as np

from gptzoo.inspection.attention import AttentionMaps
from gptzoo.inspection.lens import LogitLens
from gptzoo.utils.json_text import to_json

_INT16_MAX = 32767


def attention_page(maps: AttentionMaps, title: str) -> str:
    """Return a page with thumbnails of all heads, the selected head enlarged, and its weights over the text."""
    return _page(title, "attention", attention_data(maps))


def attention_data(maps: AttentionMaps) -> dict[str, Any]:
    """Return attention maps as JSON, in the form that the script of `attention_page` reads."""
    data = [
        {
            "path": attention_map.path,
            "type": attention_map.type,
            "numbers": attention_map.heads,
            **_quantized(attention_map.weights.numpy()),
        }
        for attention_map in maps.maps
    ]
    return {"tokens": maps.tokens, "maps": data, "without_map": maps.without_map}


def lens_page(lens: LogitLens, title: str) -> str:
    """Return a page with the top token of each layer and position, and the top candidates of the selected cell."""
    data = {
        "tokens": lens.tokens,
        "layers": lens.layers,
        "ids": lens.ids.tolist(),
        "probabilities": [[[float(f"{p:.4g}") for p in cell] for cell in row] for row in lens.probabilities.tolist()],
        "labels": lens.labels,
        "entropy": [[round(value, 3) for value in row] for row in lens.entropy.tolist()],
        "rank": lens.rank.tolist(),
    }
    return _page(title, "logits", data)


def view_script(view: str) -> str:
    """Return the script of a view, such as "attention", as a function `show(data, view, hint, keys)`.

    It draws `data` into the element `view`, explains itself in the element `hint`, and listens to the keys that reach
    the element or document `keys`.
    """
    return f"{_asset('page.js')}\nfunction show(data, view, hint, keys) {{\n{_asset(view + '.js')}}}\n"


def page_style() -> str:
    """Return the style sheet of the pages."""
    return _asset("page.css")


def _quantized(weights: np.ndarray) -> dict[str, Any]:
    """Return weights (H, T, S) as base64 of little-endian int16, to be multiplied by `scale`."""
    largest = float(np.abs(weights).max()) or 1.0
    steps = np.round(weights / largest * _INT16_MAX).astype("<i2")
    data = base64.b64encode(steps.tobytes()).decode("ascii")
    return {"shape": weights.shape, "scale": largest / _INT16_MAX, "data": data}


def _page(title: str, view: str, data: Mapping[str, object]) -> str:
    # A `<` inside a token must not end the script element that holds the data.
    values = to_json(data, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")
    return f"""<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{html.escape(title)}</title>
<style>
{page_style()}</style>
<header><h1>{html.escape(title)}</h1><p id="hint"></p></header>
<main id="view"></main>
<script type="application/json" id="data">{values}</script>
<script>
{view_script(view)}
show(JSON.parse(document.getElementById("data").textContent), document.getElementById("view"),
  document.getElementById("hint"), document);
</script>
</html>
"""


def _asset(name: str) -> str:
    return resources.files("gptzoo.inspection").joinpath("assets", name).read_text(encoding="utf-8")
