"""How variants look, the same in every figure: told apart by colour and line, also by who sees fewer colours."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

# Searched for the largest smallest distance (in OKLab, seen normally and with protanopia, deuteranopia and tritanopia)
# at a contrast of 3 : 1 or more with the ground; the test measures both.
LIGHT = ("#395896", "#b8711a", "#149576", "#f25daf", "#645e00", "#3f039a")
DARK = ("#5d94fe", "#c04e0a", "#098571", "#f490a4", "#eee451", "#bfb7ff")
GROUND = {"light": "#ffffff", "dark": "#191d25"}
INK = {"light": "#1d2430", "dark": "#e6e9ef"}
DASHES = ("", "6 3", "1.5 2.5")  # of SVG: lengths of dash and gap


@dataclass(frozen=True)
class Look:
    """Of a variant; the baseline has the colour of the text."""

    colour: int | None  # index of LIGHT and DARK
    dash: str


def looks(variants: Sequence[str], baseline: str) -> dict[str, Look]:
    """By variant, in the order given, so that a look stays while an ablation goes on and the ranking changes."""
    found = {baseline: Look(None, "")}
    for index, name in enumerate(name for name in variants if name != baseline):
        turn, colour = divmod(index, len(LIGHT))
        found[name] = Look(colour, DASHES[turn % len(DASHES)])
    return found
