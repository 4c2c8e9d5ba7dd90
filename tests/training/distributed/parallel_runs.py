"""Helpers for tests of runs over several processes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from processes import Ended, together
from runs import rows

import gptzoo

DDP, FSDP, HSDP = {"replicate": 2}, {"shard": 2}, {"replicate": 2, "shard": 2}
BOTH = pytest.mark.parametrize("parallel", [DDP, FSDP], ids=["ddp", "fsdp"])
SUCCESS = Ended(0, "", False)
LAST = "checkpoints/step-00000012"


def train(n: int, spec: dict[str, Any], out: Path, **options: Any) -> list[Ended]:
    """Train in `n` processes; each one calls `before(rank)` first."""
    before: Callable[[int], Any] = options.pop("before", lambda rank: None)

    def work(rank: int) -> None:
        before(rank)
        gptzoo.train(spec, out, quiet=True, **options)

    return together(n, work, out.parent)


def assert_close(a: Path, b: Path, *, rel: float = 1e-5) -> None:
    """Compare the metrics of two runs up to rounding."""
    for row_a, row_b in zip(rows(a), rows(b), strict=True):
        assert row_a.keys() == row_b.keys()
        for name, value in row_a.items():
            assert row_b[name] == pytest.approx(value, rel=rel), f"{name} of step {row_a['step']}"


def common_error(ended: list[Ended], code: int) -> str:
    """Return the error that all processes raised with this exit code, and that only the first one printed."""
    assert [process.code for process in ended] == [code] * len(ended), ended
    assert [process.silent for process in ended] == [rank > 0 for rank in range(len(ended))]
    return ended[0].error
