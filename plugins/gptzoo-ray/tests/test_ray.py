"""Trials on a real Ray cluster of two nodes, both on this machine."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from gptzoo_ray import RayExecutor

import gptzoo
from gptzoo.ablation.runner import Rules, Runner

CLOCKED = ("tokens_per_second", "memory_bytes", "flops_per_second", "mfu")


@dataclass(frozen=True)
class Named:
    name: str
    spec: Any


def trials(n: int, **changes: Any) -> list[Named]:
    model = {"context_length": 16, "d_model": 16, "n_layers": 1, "n_heads": 2}
    spec = {"model": model, "batch_size": 4, "steps": 6, "eval": {"every": 100}, "device": "cpu", **changes}
    return [Named(f"trial-{seed}", gptzoo.load_run_spec(spec, [f"seed={seed}"])) for seed in range(n)]


def rows(run: Path) -> list[dict[str, Any]]:
    lines = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
    return [{name: value for name, value in row.items() if name not in CLOCKED} for row in lines]


@pytest.fixture
def cluster() -> Iterator[Any]:
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    cluster.add_node(num_cpus=1)
    yield cluster
    cluster.shutdown()


@pytest.mark.slow
def test_trials_are_those_of_the_local_executor(tmp_path: Path, cluster: Any) -> None:
    named = trials(4)
    local = gptzoo.registered("executor")["local"]
    assert set(Runner(named, tmp_path / "local", local.Config().build()).run().values()) == {"done"}
    executor = RayExecutor.Config(address=cluster.address).build()
    assert set(Runner(named, tmp_path / "ray", executor).run().values()) == {"done"}
    assert executor.n_workers == 2  # one for each node
    for trial in named:
        ours, theirs = (tmp_path / where / "trials" / trial.name for where in ("ray", "local"))
        assert rows(ours) == rows(theirs)


@pytest.mark.slow
def test_a_trial_that_is_refused_is_told_with_its_reason(tmp_path: Path, cluster: Any) -> None:
    executor = RayExecutor.Config(address=cluster.address).build()
    states = Runner(trials(1, device="cuda:77"), tmp_path, executor, rules=Rules(retries=0)).run()
    assert states == {"trial-0": "failed"}
    attempts = json.loads((tmp_path / "trials" / "trial-0" / "attempts.json").read_text())
    assert attempts["given_up"].startswith("refused: device 'cuda:77'")


@pytest.mark.slow
def test_a_cluster_without_room_for_one_trial_is_refused(tmp_path: Path, cluster: Any) -> None:
    executor = RayExecutor.Config(address=cluster.address, gpus=1.0).build()
    with pytest.raises(gptzoo.InputError, match="no room for one trial, which wants 1 CPUs and 1 GPUs"):
        Runner(trials(1), tmp_path, executor).run()
