"""Formatting of numbers and counts in sentences."""

from __future__ import annotations

import pytest

from gptzoo.ablation.statistics.sentences import format_number
from gptzoo.ablation.wording import format_count


@pytest.mark.parametrize(
    ("value", "uncertainty", "text"),
    [
        (0.22419, 0.023, "0.224"),
        (-0.22419, 0.23, "−0.22"),
        (-1.234e-6, 5e-6, "−1.2e−06"),
        (1.234e-9, 5e-9, "1.2e−09"),
        (1234.5, 60.0, "1234"),
        (0.0, 0.0, "0"),
        (0.25, 0.0, "0.25"),
        (-1e-9, 0.02, "0.000"),
    ],
)
def test_a_number_has_two_significant_digits_of_its_uncertainty(value: float, uncertainty: float, text: str) -> None:
    assert format_number(value, uncertainty) == text


def test_counts_have_the_right_plural_and_thousands_separators() -> None:
    assert [format_count(n, "seed") for n in (0, 1, 2, 12000)] == ["0 seeds", "1 seed", "2 seeds", "12,000 seeds"]
