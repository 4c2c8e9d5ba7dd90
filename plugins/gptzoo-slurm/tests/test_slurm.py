"""Trials by submitit, run by its own local executor where there is no Slurm; and what Slurm itself would be told."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gptzoo_slurm import SlurmExecutor

import gptzoo
from gptzoo.ablation.runner import Rules, Runner

CLOCKED = ("tokens_per_second", "memory_bytes", "flops_per_second", "mfu")


@dataclass(frozen=True)
class Named:
    name: str
    spec: Any


def trials(*lrs: float) -> list[Named]:
    """Runs of a moment; an absurd learning rate makes one diverge."""
    model = {"context_length": 16, "d_model": 16, "n_layers": 1, "n_heads": 2}
    spec = {"model": model, "batch_size": 4, "steps": 6, "eval": {"every": 100}, "device": "cpu"}
    return [Named(f"trial-{n}", gptzoo.load_run_spec(spec, [f"optimizer.lr={lr}"])) for n, lr in enumerate(lrs)]


def rows(run: Path) -> list[dict[str, Any]]:
    lines = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
    return [{name: value for name, value in row.items() if name not in CLOCKED} for row in lines]


def test_trials_are_those_of_the_local_executor(tmp_path: Path) -> None:
    named = trials(0.001, 0.002)
    local = gptzoo.registered("executor")["local"]
    assert set(Runner(named, tmp_path / "local", local.Config().build()).run().values()) == {"done"}
    slurm = SlurmExecutor.Config(cluster="local").build()
    assert set(Runner(named, tmp_path / "slurm", slurm).run().values()) == {"done"}
    for trial in named:
        ours, theirs = (tmp_path / where / "trials" / trial.name for where in ("slurm", "local"))
        assert rows(ours) == rows(theirs)


def test_a_trial_that_is_refused_is_told_with_its_reason(tmp_path: Path) -> None:
    wrong = Named("wrong", trials(0.001)[0].spec.model_copy(update={"device": "cuda:77"}))
    slurm = SlurmExecutor.Config(cluster="local").build()
    assert Runner([wrong], tmp_path, slurm, rules=Rules(retries=0)).run() == {"wrong": "failed"}
    attempts = json.loads((tmp_path / "trials" / "wrong" / "attempts.json").read_text())
    assert attempts["given_up"].startswith("refused: device 'cuda:77'")


def test_slurm_is_told_what_was_asked_for(tmp_path: Path) -> None:
    config = {"cpus": 4, "gpus": 2, "memory_gb": 32.0, "timeout_min": 90, "partition": "gpu", "extra": {"qos": "low"}}
    executor = SlurmExecutor.Config(**config).build()
    told = executor.parameters("rope-1")
    assert told["slurm_additional_parameters"] == {"qos": "low"}
    script = sbatch_file(told, tmp_path)
    for line in ("--cpus-per-task=4", "--gpus-per-node=2", "--mem=32GB", "--time=90", "--partition=gpu", "--qos=low"):
        assert line in script
    assert "export OMP_NUM_THREADS=4" in script


def sbatch_file(told: dict[str, Any], folder: Path) -> str:
    """The file that sbatch would get, by submitit's own hand."""
    from submitit.slurm.slurm import _make_sbatch_string

    names = {"slurm_partition": "partition", "slurm_additional_parameters": "additional_parameters"}
    options = {names.get(name, name.removeprefix("slurm_")): value for name, value in told.items()}
    options |= {"job_name": options.pop("name"), "time": options.pop("timeout_min")}
    options["mem"] = f"{options.pop('mem_gb'):g}GB"
    return _make_sbatch_string(command="work", folder=folder, **options)
