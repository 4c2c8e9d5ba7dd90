from __future__ import annotations

from gptzoo.training.run.train_state import TrainState


def test_the_best_evaluation_is_the_first_with_the_lowest_loss() -> None:
    state = TrainState()
    is_best = []
    for state.step, loss in enumerate([3.0, 2.0, 2.5, 2.0, 1.9]):
        is_best.append(state.record_evaluation(loss))
    assert is_best == [True, True, False, False, True]
    assert (state.best_step, state.best_loss, state.evaluations_since_best) == (4, 1.9, 0)


def test_a_loss_less_than_min_delta_lower_is_not_a_new_best() -> None:
    state = TrainState()
    for state.step, loss in enumerate([3.0, 2.95, 2.91, 2.85]):
        state.record_evaluation(loss, min_delta=0.1)
    assert (state.best_step, state.best_loss) == (3, 2.85)  # compared with the best loss, not with the previous one


def test_skipped_updates_are_counted_in_total_and_in_a_row() -> None:
    state = TrainState()
    for skipped in (True, True, False, True):
        state.record_update(skipped=skipped)
    assert (state.skipped, state.skipped_in_a_row) == (3, 1)


def test_a_nan_loss_is_never_the_best() -> None:
    state = TrainState()
    assert state.record_evaluation(2.0)
    assert not state.record_evaluation(float("nan"))
    assert state.best_loss == 2.0
