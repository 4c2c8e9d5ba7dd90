from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gptzoo.training.optim.loss_scale import LossScale


def test_it_halves_on_overflow_and_doubles_after_an_interval_without() -> None:
    scale = LossScale(True, growth_interval=3)
    assert scale.value == 2.0**16
    assert scale.update(finite=False)
    assert scale.value == 2.0**15
    for _ in range(2):
        scale.update(finite=True)
    assert scale.value == 2.0**15
    scale.update(finite=True)
    assert scale.value == 2.0**16


def test_an_overflow_that_no_smaller_scale_can_mend_is_none() -> None:
    scale = LossScale(True)
    while scale.value > 1:
        assert scale.update(finite=False)
    assert not scale.update(finite=False)


def test_without_fp16_nothing_is_scaled() -> None:
    scale = LossScale(False)
    assert not scale.update(finite=False)
    assert scale.value == 1.0
    assert scale.state() == {}


@given(st.lists(st.booleans(), max_size=60), st.integers(0, 60))
def test_saved_and_restored_it_goes_on_as_it_would_have(history: list[bool], cut: int) -> None:
    straight, before = LossScale(True, growth_interval=4), LossScale(True, growth_interval=4)
    for finite in history:
        straight.update(finite)
    for finite in history[:cut]:
        before.update(finite)
    after = LossScale(True, growth_interval=4)
    after.restore(before.state())
    for finite in history[cut:]:
        after.update(finite)
    assert after.state() == straight.state()
