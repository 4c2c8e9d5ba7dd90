"""Large numbers in a readable form."""

from __future__ import annotations


def scaled(number: float) -> str:
    """Format a number with three significant digits and an SI prefix, ready for a unit: `124 M`, `2.57 G`, `17 `."""
    value, units = float(number), ["", "k", "M", "G", "T", "P", "E"]
    while abs(value) >= 999.5 and len(units) > 1:
        value, units = value / 1000, units[1:]
    return f"{value:.3g} {units[0]}"


def format_duration(seconds: float) -> str:
    """Format a duration for people: 8 s, 3 min, 2 h 5 min."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"
