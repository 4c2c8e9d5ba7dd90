"""The executor with submitit's local executor, which needs no Slurm, and the sbatch script that Slurm would receive."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from gptzoo_slurm import SlurmExecutor

import gptzoo.testing


@pytest.mark.slow
class TestSlurmExecutor(gptzoo.testing.Conformance):
    component = SlurmExecutor
    options = [{"cluster": "local"}]


def test_the_sbatch_script_has_the_configured_options(tmp_path: Path) -> None:
    config = {"cpus": 4, "gpus": 2, "memory_gb": 32.0, "timeout_min": 90, "partition": "gpu", "extra": {"qos": "low"}}
    executor = SlurmExecutor.Config(**config).build()
    parameters = executor.submitit_parameters("rope-1")
    assert parameters["slurm_additional_parameters"] == {"qos": "low"}
    script = sbatch_script(parameters, tmp_path)
    for line in ("--cpus-per-task=4", "--gpus-per-node=2", "--mem=32GB", "--time=90", "--partition=gpu", "--qos=low"):
        assert line in script
    assert "export OMP_NUM_THREADS=4" in script


def sbatch_script(parameters: dict[str, Any], folder: Path) -> str:
    """Return the sbatch script that submitit writes for these parameters."""
    from submitit.slurm.slurm import _make_sbatch_string

    names = {"slurm_partition": "partition", "slurm_additional_parameters": "additional_parameters"}
    options = {names.get(name, name.removeprefix("slurm_")): value for name, value in parameters.items()}
    options |= {"job_name": options.pop("name"), "time": options.pop("timeout_min")}
    options["mem"] = f"{options.pop('mem_gb'):g}GB"
    return _make_sbatch_string(command="work", folder=folder, **options)
