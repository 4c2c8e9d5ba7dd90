"""A warning about settings that components recommend and a comparison leaves out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from gptzoo.ablation.records.warning import ComparisonWarning
from gptzoo.ablation.wording import listed

_UNEQUAL = (
    "The comparison may be one of this setting rather than of the component. Give the variant this setting, as axes of "
    "ablations do by default, or tune it."
)
_SHARED = (
    "No variant has this setting, so they are compared on equal terms. With it, all of them may be better, and their "
    "order may be another one."
)


def settings_left_out(left_out: Mapping[str, Sequence[str]]) -> Iterator[ComparisonWarning]:
    """Yield each recommended setting that is left out, with the variants that it concerns.

    left_out: a sentence without its full stop for each setting, by the name of the variant.
    """
    names: dict[str, list[str]] = {}
    for name, settings in left_out.items():
        for setting in settings:
            names.setdefault(setting, []).append(name)
    for setting, concerned in names.items():
        is_shared = len(concerned) == len(left_out)
        text = f"{listed(concerned, len(left_out))}: {setting}. {_SHARED if is_shared else _UNEQUAL}"
        yield ComparisonWarning("recommended", text, concerned)
