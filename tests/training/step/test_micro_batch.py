from __future__ import annotations

import numpy as np

from gptzoo.training.step.micro_batch import count_targets, split_into_micro_batches
from gptzoo.utils.targets import IGNORED_TARGET


def batch_of(n_rows: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    targets = rng.integers(0, 61, (n_rows, 16))
    targets[::3, 5:] = IGNORED_TARGET
    return {"tokens": rng.integers(0, 61, (n_rows, 16)), "targets": targets}


def test_micro_batches_are_the_batch_in_order() -> None:
    batch = batch_of(24)
    micro_batches = split_into_micro_batches(batch, 5)
    assert [micro_batch.n_rows for micro_batch in micro_batches] == [5, 5, 5, 5, 4]
    for name, array in batch.items():
        assert np.array_equal(
            np.concatenate([micro_batch.inputs[name].numpy() for micro_batch in micro_batches]), array
        )
    n_targets = sum(micro_batch.n_targets for micro_batch in micro_batches)
    assert n_targets == count_targets(batch) == int((batch["targets"] >= 0).sum())


def test_each_rank_gets_its_rows_with_indices_in_the_whole_batch() -> None:
    batch = batch_of(12)
    ranks = [split_into_micro_batches(batch, 3, rank=rank, n_ranks=2) for rank in range(2)]
    rows = np.concatenate([micro_batch.inputs["tokens"].numpy() for rank in ranks for micro_batch in rank])
    assert np.array_equal(rows, batch["tokens"])
    assert [micro_batch.index for rank in ranks for micro_batch in rank] == [0, 1, 2, 3]
    assert {micro_batch.n_batch_targets for rank in ranks for micro_batch in rank} == {count_targets(batch)}
