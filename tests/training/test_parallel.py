"""Runs of several processes: what they learn, what they keep, and how they end."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from processes import Ended, together
from runs import rows

import gptzoo

DDP, FSDP = {"replicate": 2}, {"replicate": 1, "shard": 2}


def train(n: int, spec: dict[str, Any], out: Path, **options: Any) -> list[Ended]:
    return together(n, lambda rank: gptzoo.train(spec, out, quiet=True, **options), out.parent)


def assert_close(a: Path, b: Path, *, rel: float = 1e-5) -> None:
    for one, other in zip(rows(a), rows(b), strict=True):
        assert one.keys() == other.keys()
        for name, value in one.items():
            assert other[name] == pytest.approx(value, rel=rel), f"{name} of step {one['step']}"


@pytest.mark.parametrize("parallel", [DDP, FSDP], ids=["ddp", "fsdp"])
def test_two_processes_learn_what_one_does(run_spec: dict[str, Any], tmp_path: Path, parallel: dict[str, Any]) -> None:
    gptzoo.train(run_spec, tmp_path / "one", quiet=True)
    ended = train(2, {**run_spec, "parallel": parallel}, tmp_path / "two")
    assert ended == [Ended(0, "", False)] * 2
    assert_close(tmp_path / "one", tmp_path / "two")
