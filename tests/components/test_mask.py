"""The attention mask."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from gptzoo.components.mask import attention_mask

positions = st.lists(st.integers(-1, 6), min_size=1, max_size=5)


@given(
    q_pos=positions,
    k_pos=positions,
    causal=st.booleans(),
    window=st.none() | st.integers(1, 4),
)
def test_a_key_is_visible_by_its_position_alone(
    q_pos: list[int], k_pos: list[int], causal: bool, window: int | None
) -> None:
    mask = attention_mask(torch.tensor([q_pos]), torch.tensor([k_pos]), causal=causal, window=window)
    assert mask.shape == (1, 1, len(q_pos), len(k_pos))
    for t, q in enumerate(q_pos):
        for s, k in enumerate(k_pos):
            inside = k >= 0 and (k <= q or not causal) and (window is None or abs(q - k) < window)
            assert mask[0, 0, t, s].item() == (q < 0 or inside)


@given(st.lists(st.integers(0, 2), min_size=1, max_size=6))
def test_documents_do_not_attend_to_each_other(documents: list[int]) -> None:
    at = torch.arange(len(documents))[None]
    mask = attention_mask(at, at, documents=torch.tensor([documents]))[0, 0]
    for t, mine in enumerate(documents):
        assert mask[t].tolist() == [other == mine and s <= t for s, other in enumerate(documents)]


def test_rows_may_differ() -> None:
    mask = attention_mask(torch.tensor([[-1, 0], [0, 1]]), torch.tensor([[-1, 0], [0, 1]]))
    assert mask[:, 0].tolist() == [[[True, True], [False, True]], [[True, False], [True, True]]]
