"""A warning about settings that components recommend and a comparison leaves out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from gptzoo.ablation.records.warning import ComparisonWarning
from gptzoo.ablation.wording import listed


def settings_left_out(left_out: Mapping[str, Sequence[str]]) -> Iterator[ComparisonWarning]:
    """Yield each recommended setting that is left out, with the variants that it concerns.

    left_out: a sentence without its full stop for each setting, by the name of the variant.
    """
    names: dict[str, list[str]] = {}
    for name, settings in left_out.items():
        for setting in settings:
            names.setdefault(setting, []).append(name)
    for setting, concerned in names.items():
        yield ComparisonWarning(
            "recommended",
            f"{listed(concerned, len(left_out))}: {setting}. The comparison may be one of this setting rather than of "
            "the component. Give the variant this setting, as axes of ablations do by default, or tune it.",
            concerned,
        )
