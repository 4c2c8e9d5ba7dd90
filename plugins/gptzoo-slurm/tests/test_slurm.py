"""Trials by submitit, run by its own local executor where there is no Slurm; and what Slurm itself would be told."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from gptzoo_slurm import SlurmExecutor

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


def trials(*lrs: float) -> list[Named]:
    """Runs of a moment; an absurd learning rate makes one diverge."""
    return [Named(f"trial-{n}", gptzoo.load_run_spec(TINY, [f"optimizer.lr={lr}"])) for n, lr in enumerate(lrs)]


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


@pytest.mark.slow
def test_the_tables_are_those_of_the_local_executor(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    local = gptzoo.registered("executor")["local"].Config(n_workers=2)
    executor = SlurmExecutor.Config(cluster="local")
    there, here = (ablated(tmp_path, name, config) for name, config in (("slurm", executor), ("local", local)))
    print_outcome(there, plain_console())
    told = capsys.readouterr().out
    print_outcome(here, plain_console())
    assert told == capsys.readouterr().out
    assert "tables: 4 trials: 4 done" in told
    assert outcome_as_dict(there) == outcome_as_dict(here)
    trials = sorted(trial.name for trial in (tmp_path / "local" / "trials").iterdir())
    assert len(trials) == 4
    for trial in trials:
        ours, theirs = (tmp_path / where / "trials" / trial for where in ("slurm", "local"))
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
