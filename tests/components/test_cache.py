"""The KV cache against a list of everything written to it."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from gptzoo import extend, new_cache


def value_at(positions: Tensor) -> Tensor:
    """Return (B, T, 2) test values for positions (B, T): the row and the position."""
    row = torch.arange(len(positions))[:, None].expand_as(positions)
    return torch.stack([row, positions], dim=-1).float()


def seen_by(seen: dict[str, Tensor], k_pos: Tensor, row: int) -> list[int]:
    """Return the positions of a row's keys, after checking that each key is the one written there."""
    k_pos = k_pos.expand(len(seen["x"]), -1)
    for key, position in zip(seen["x"][row].tolist(), k_pos[row].tolist(), strict=True):
        assert position < 0 or key == [row, position]
    return sorted(position for position in k_pos[row].tolist() if position >= 0)


@given(n_slots=st.integers(1, 6), chunks=st.lists(st.integers(1, 4), min_size=1, max_size=6), padding=st.integers(0, 3))
def test_each_chunk_attends_to_itself_and_to_the_cached_positions(
    n_slots: int, chunks: list[int], padding: int
) -> None:
    state = new_cache(2, n_slots, {"x": (2,)}, device="cpu", dtype=torch.float32)
    written = [0, 0]  # the second row starts with padding
    for index, size in enumerate(chunks):
        rows = []
        for row, skip in enumerate((0, padding if index == 0 else 0)):
            n_new = max(0, size - skip)
            rows.append([-1] * (size - n_new) + list(range(written[row], written[row] + n_new)))
        positions = torch.tensor(rows)
        before = list(written)
        written = [count + sum(p >= 0 for p in row) for count, row in zip(written, rows, strict=True)]
        seen, k_pos = extend(state, {"x": value_at(positions)}, positions, no_past=index == 0)
        for row in range(2):
            keys = seen_by(seen, k_pos, row)
            # A token may see n_slots positions, its own included; the first new one reaches back farthest.
            assert set(keys) >= set(range(max(0, before[row] + 1 - n_slots), written[row]))
            assert len(keys) == len(set(keys)), "a position is seen twice"
            assert all(position < written[row] for position in keys)


@given(n_slots=st.integers(1, 5), length=st.integers(1, 9))
def test_after_a_chunk_the_slots_hold_the_latest_positions(n_slots: int, length: int) -> None:
    state = new_cache(1, n_slots, {"x": (2,)}, device="cpu", dtype=torch.float32)
    positions = torch.arange(length)[None]
    extend(state, {"x": value_at(positions)}, positions, no_past=True)
    assert seen_by({"x": state["x"]}, state["position"], 0) == list(range(max(0, length - n_slots), length))


def test_an_empty_cache_holds_nothing() -> None:
    state = new_cache(2, 3, {"x": (2,)}, device="cpu", dtype=torch.float32)
    assert (state["position"] == -1).all()
    assert {name: tensor.shape[0] for name, tensor in state.items()} == {"position": 2, "x": 2}


def test_after_a_rollback_later_positions_are_masked() -> None:
    state = new_cache(1, 8, {"x": (2,)}, device="cpu", dtype=torch.float32)
    first = torch.arange(6)[None]
    extend(state, {"x": value_at(first)}, first, no_past=True)
    again = torch.tensor([[3, 4]])
    seen, k_pos = extend(state, {"x": value_at(again)}, again, no_past=False)
    assert seen_by(seen, k_pos, 0) == [0, 1, 2, 3, 4]


def test_a_chunk_that_overwrites_nothing_reads_only_filled_slots_without_a_copy() -> None:
    state = new_cache(2, 100, {"x": (2,)}, device="cpu", dtype=torch.float32)
    first = torch.tensor([[-1, 0, 1, 2], [0, 1, 2, 3]])
    extend(state, {"x": value_at(first)}, first, no_past=True)
    then = torch.tensor([[-1, 3], [4, 5]])  # of which the first row has one
    seen, k_pos = extend(state, {"x": value_at(then)}, then, no_past=False)
    assert seen["x"].data_ptr() == state["x"].data_ptr()
    assert seen["x"].shape[1] == k_pos.shape[1] == 6
    assert [seen_by(seen, k_pos, row) for row in (0, 1)] == [[0, 1, 2, 3], [0, 1, 2, 3, 4, 5]]


def test_the_tensors_of_a_state_are_updated_in_place() -> None:
    state = new_cache(1, 4, {"x": (2,)}, device="cpu", dtype=torch.float32)
    addresses = {name: tensor.data_ptr() for name, tensor in state.items()}
    for first, size in ((0, 2), (2, 1), (3, 3)):
        positions = torch.arange(first, first + size)[None]
        extend(state, {"x": value_at(positions)}, positions, no_past=first == 0)
    assert {name: tensor.data_ptr() for name, tensor in state.items()} == addresses


@pytest.mark.parametrize("size", [1, 3])
def test_a_chunk_without_a_past_attends_to_itself(size: int) -> None:
    state = new_cache(2, 4, {"x": (2,)}, device="cpu", dtype=torch.float32)
    positions = torch.arange(size)[None]
    x = value_at(positions.expand(2, -1))
    seen, k_pos = extend(state, {"x": x}, positions, no_past=True)
    assert seen["x"] is x
    assert k_pos is positions  # by which a step knows the keys whose score bias it has at hand


def test_no_slot_is_written_twice_in_one_call(monkeypatch: pytest.MonkeyPatch) -> None:
    writes: list[list[int]] = []
    write = Tensor.index_put_

    def spy(self: Tensor, indices: tuple[Tensor, Tensor], values: Tensor) -> Tensor:
        writes.append(indices[1][0].tolist())
        return write(self, indices, values)

    monkeypatch.setattr(Tensor, "index_put_", spy)
    state = new_cache(1, 3, {"x": (2,)}, device="cpu", dtype=torch.float32)
    positions = torch.arange(8)[None]
    extend(state, {"x": value_at(positions)}, positions, no_past=True)
    # Which of two writes wins is undefined on a GPU; the spare slot 3 takes what the ring forgets at once.
    assert writes == [[3, 3, 3, 3, 3, 2, 0, 1]] * 2


def test_rows_may_share_one_row_of_positions() -> None:
    state = new_cache(3, 4, {"x": (2,)}, device="cpu", dtype=torch.float32)
    for first, size in ((0, 2), (2, 1), (3, 2)):
        positions = torch.arange(first, first + size)[None]
        seen, k_pos = extend(state, {"x": value_at(positions.expand(3, -1))}, positions, no_past=first == 0)
    for row in range(3):
        assert seen_by(seen, k_pos, row) == [0, 1, 2, 3, 4]
