"""The results of a subject as a Markdown table."""

from __future__ import annotations

from typing import Any


def markdown(data: dict[str, Any]) -> str:
    """Return the table of a result file: one row for each side of each case."""
    machine = data["environment"]
    lines = [
        f"# {data['title']}",
        "",
        f"{machine['processor']}, {machine['cores']} cores, {machine['threads']} threads, {machine['device']}, "
        f"torch {machine['torch']}. Median; in brackets the quartiles, and of ratios a 95% interval of the median.",
        "",
        "| case | side | median | ratio to the base | rounds |",
        "|---|---|---|---|---|",
    ]
    for name, entry in data["cases"].items():
        if "sides" not in entry:
            lines.append(f"| {name} | {entry['status']}: {entry['reason']} | | | |")
            continue
        for side, value in entry["sides"].items():
            ratio = next((r for pair, r in entry["ratios"].items() if pair.startswith(f"{side} / ")), None)
            shown = "1" if ratio is None else f"{ratio['median']:.3f} ({_range(ratio['interval'])})"
            median = f"{value['median']:.4g} {entry['unit']} ({_range(value['quartiles'])})"
            lines.append(f"| {name} | {side} | {median} | {shown} | {value['n']} |")
    return "\n".join(lines) + "\n"


def _range(values: list[float]) -> str:
    return " to ".join(f"{value:.4g}" for value in values)
