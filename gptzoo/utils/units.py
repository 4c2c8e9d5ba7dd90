"""Large numbers in a readable form."""

from __future__ import annotations


def scaled(number: float) -> str:
    """Format a number with three significant digits and an SI prefix, ready for a unit: `124 M`, `2.57 G`, `17 `."""
    value, units = float(number), ["", "k", "M", "G", "T", "P", "E"]
    while abs(value) >= 999.5 and len(units) > 1:
        value, units = value / 1000, units[1:]
    return f"{value:.3g} {units[0]}"
