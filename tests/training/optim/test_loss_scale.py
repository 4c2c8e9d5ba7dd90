from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gptzoo.training.optim.loss_scale import LossScale


def test_the_scale_halves_on_overflow_and_doubles_after_an_interval_without() -> None:
    scale = LossScale(True, growth_interval=3)
    assert scale.value == 2.0**16
    assert scale.update(gradient_is_finite=False)
    assert scale.value == 2.0**15
    for _ in range(2):
        scale.update(gradient_is_finite=True)
    assert scale.value == 2.0**15
    scale.update(gradient_is_finite=True)
    assert scale.value == 2.0**16


def test_the_scale_is_not_lowered_below_its_minimum() -> None:
    scale = LossScale(True)
    while scale.value > 1:
        assert scale.update(gradient_is_finite=False)
    assert not scale.update(gradient_is_finite=False)


def test_a_disabled_scale_is_one_and_has_no_state() -> None:
    scale = LossScale(False)
    assert not scale.update(gradient_is_finite=False)
    assert scale.value == 1.0
    assert scale.state_dict() == {}


@given(st.lists(st.booleans(), max_size=60), st.integers(0, 60))
def test_a_restored_scale_continues_like_one_that_was_not_saved(history: list[bool], cut: int) -> None:
    straight, before = LossScale(True, growth_interval=4), LossScale(True, growth_interval=4)
    for finite in history:
        straight.update(finite)
    for finite in history[:cut]:
        before.update(finite)
    after = LossScale(True, growth_interval=4)
    after.load_state_dict(before.state_dict())
    for finite in history[cut:]:
        after.update(finite)
    assert after.state_dict() == straight.state_dict()
