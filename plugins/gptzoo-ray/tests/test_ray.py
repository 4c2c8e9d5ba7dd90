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
from gptzoo.ablation.outcome import Outcome
from gptzoo.ablation.runner import Rules, Runner
from gptzoo.ablation.show_outcome import outcome_as_dict, print_outcome
from gptzoo.ablation.tables import plain_console
from gptzoo.spec.files import load_ablation_spec

CLOCKED = ("tokens_per_second", "memory_bytes", "flops_per_second", "mfu")
TINY = {
    "model": {"context_length": 16, "d_model": 16, "n_layers": 1, "n_heads": 2},
    "batch_size": 4,
    "steps": 6,
    "eval": {"every": 100},
    "device": "cpu",
}


@dataclass(frozen=True)
class Named:
    name: str
    spec: Any


def trials(n: int, **changes: Any) -> list[Named]:
    return [Named(f"trial-{seed}", gptzoo.load_run_spec({**TINY, **changes}, [f"seed={seed}"])) for seed in range(n)]


def ablated(folder: Path, name: str, executor: gptzoo.Executor.Config) -> Outcome:
    """What two norms with two seeds each come to, trained in a folder of that name by the executor."""
    (folder / "page.txt").write_text("the quick brown fox jumps over the lazy dog. " * 40)
    base = {**TINY, "corpus": {"type": "text", "path": str(folder / "page.txt")}}
    axes = {"model.norm": ["pre_ln", "post_ln"]}
    spec = load_ablation_spec({"name": "tables", "base": base, "axes": axes, "seeds": 2, "samples": False})
    return gptzoo.ablate(spec.model_copy(update={"executor": executor}), folder / name)


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
def test_the_tables_are_those_of_the_local_executor(
    tmp_path: Path, cluster: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    local = gptzoo.registered("executor")["local"].Config(n_workers=2)
    executor = RayExecutor.Config(address=cluster.address)
    assert len(cluster.list_all_nodes()) == 2
    there, here = (ablated(tmp_path, name, config) for name, config in (("ray", executor), ("local", local)))
    print_outcome(there, plain_console())
    told = capsys.readouterr().out
    print_outcome(here, plain_console())
    assert told == capsys.readouterr().out
    assert "tables: 4 trials: 4 done" in told
    assert outcome_as_dict(there) == outcome_as_dict(here)
    trials = sorted(trial.name for trial in (tmp_path / "local" / "trials").iterdir())
    assert len(trials) == 4
    for trial in trials:
        ours, theirs = (tmp_path / where / "trials" / trial for where in ("ray", "local"))
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
