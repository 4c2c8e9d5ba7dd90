"""A failure is reported for the smallest example, and the effort decides how many are tried."""

from __future__ import annotations

import pytest
from hypothesis import strategies as st

from gptzoo.testing.at_size.draws import for_all, simpler_sequences, sizes, smaller_numbers
from gptzoo.testing.at_size.effort import QUICK, SAMPLE, SLOW
from gptzoo.testing.verdict import Failed, Skipped


def fail_from_65_on(number: int) -> None:
    if number >= 65:
        raise Failed(f"wrong at {number}")


def fail_with_two_of_a(text: str) -> None:
    if text.count("a") > 1:
        raise Failed(f"wrong for {text!r}")


def test_the_smallest_number_is_reported_for_an_example_and_for_a_draw() -> None:
    with pytest.raises(Failed, match=r"wrong at 65$"):
        for_all(sizes(0, 9), fail_from_65_on, effort=QUICK, examples=(3, 1000), simpler=smaller_numbers)
    with pytest.raises(Failed, match=r"wrong at 65$"):
        for_all(sizes(0, 1000), fail_from_65_on, effort=QUICK)


def test_the_smallest_part_of_a_text_is_reported() -> None:
    text = "what a day it was, and what a night"
    with pytest.raises(Failed, match=r"wrong for 'aa'$"):
        for_all(
            st.just(""),
            fail_with_two_of_a,
            effort=QUICK,
            examples=[text],
            simpler=lambda t: map("".join, simpler_sequences(t)),
        )


def test_without_a_way_to_simplify_the_example_itself_is_reported() -> None:
    with pytest.raises(Failed, match=r"wrong at 1000$"):
        for_all(st.just(0), fail_from_65_on, effort=QUICK, examples=[1000])


def test_another_exception_of_a_component_is_reported_and_a_skip_ends_the_check() -> None:
    def raise_value_error(number: int) -> None:
        if number > 7:
            raise ValueError(f"too large: {number}")

    def skip(number: int) -> None:
        raise Skipped("it does not apply")

    with pytest.raises(ValueError, match=r"too large: 8$"):
        for_all(st.just(0), raise_value_error, effort=QUICK, examples=[100], simpler=smaller_numbers)
    with pytest.raises(Skipped):
        for_all(st.just(0), skip, effort=QUICK, examples=[100])


@pytest.mark.parametrize(("effort", "n_examples", "draws"), [(SAMPLE, 3, False), (QUICK, 7, True), (SLOW, 7, True)])
def test_a_sample_checks_every_third_example_and_draws_none(effort: object, n_examples: int, draws: bool) -> None:
    tried: list[int] = []
    for_all(st.integers(100, 10**6), tried.append, effort=effort, n_draws=8, examples=range(7))
    assert len([number for number in tried if number < 100]) == n_examples
    assert any(number >= 100 for number in tried) == draws


def test_sizes_are_often_at_an_edge() -> None:
    tried: list[int] = []
    for_all(sizes(1, 200), tried.append, effort=SLOW, n_draws=25)
    assert {64, 65, 127, 129} & set(tried)
    assert min(tried) >= 1
    assert max(tried) <= 200
