"""Pages in HTML that need nothing beside themselves: they work from a file, without a network."""

from __future__ import annotations

import base64
import html
import json
from collections.abc import Mapping
from importlib import resources
from typing import Any

import numpy as np

from gptzoo.inspection.attention import AttentionMaps
from gptzoo.inspection.lens import Lens

_STEPS = 32767  # of the integers that weights are rounded to


def attention_page(found: AttentionMaps, title: str) -> str:
    """An overview of all heads; the chosen one large, and as shades over the text."""
    maps = [
        {"path": each.path, "type": each.type, "numbers": each.heads, **_packed(each.weights.numpy())}
        for each in found.maps
    ]
    return _page(title, "attention", {"tokens": found.tokens, "maps": maps, "silent": found.silent})


def lens_page(found: Lens, title: str) -> str:
    """The likeliest token of each layer and position as a table; all candidates of the chosen one."""
    data = {
        "tokens": found.tokens,
        "layers": found.layers,
        "ids": found.ids.tolist(),
        "probabilities": [[[float(f"{p:.4g}") for p in cell] for cell in row] for row in found.probabilities.tolist()],
        "labels": found.labels,
        "entropy": [[round(value, 3) for value in row] for row in found.entropy.tolist()],
        "rank": found.rank.tolist(),
    }
    return _page(title, "logits", data)


def _packed(weights: np.ndarray) -> dict[str, Any]:
    """(H, T, S) as base64 of little-endian int16, times `scale`."""
    scale = float(np.abs(weights).max()) or 1.0
    steps = np.round(weights / scale * _STEPS).astype("<i2")
    return {"shape": weights.shape, "scale": scale / _STEPS, "data": base64.b64encode(steps.tobytes()).decode("ascii")}


def _page(title: str, view: str, data: Mapping[str, Any]) -> str:
    # A `<` in a token must not end the script that the data stands in.
    values = json.dumps(data, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")
    return f"""<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{html.escape(title)}</title>
<style>
{_asset("page.css")}</style>
<header><h1>{html.escape(title)}</h1><p id="hint"></p></header>
<main id="view"></main>
<script type="application/json" id="data">{values}</script>
<script>
{_asset("page.js")}
{_asset(view + ".js")}</script>
</html>
"""


def _asset(name: str) -> str:
    return resources.files("gptzoo.inspection").joinpath("assets", name).read_text(encoding="utf-8")
