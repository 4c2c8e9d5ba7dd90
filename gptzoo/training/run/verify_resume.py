"""A check that a run that is killed and resumed gives bitwise the same results as an uninterrupted run."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gptzoo.checkpoint.checkpoints import newest_valid_checkpoint
from gptzoo.checkpoint.model_folder import read_tensors
from gptzoo.errors import GptzooError
from gptzoo.spec.provenance import add_provenance
from gptzoo.spec.run import RunSpec
from gptzoo.training.run.metrics_file import read_metrics
from gptzoo.utils.atomic import write_json

MACHINE_METRICS = frozenset({"tokens_per_second", "mfu", "memory_gib"})
"""Metrics that depend on the clock or the machine, so they differ between equal runs."""
_MAX_NAMES = 5  # tensors named in a message


@dataclass(frozen=True)
class Verification:
    """The result of a check: where the run was killed, and the differences at the end."""

    steps: int
    killed_after: tuple[int, ...]  # last step in the metrics at each kill
    differences: tuple[str, ...]

    @property
    def holds(self) -> bool:
        return not self.differences


def verify_resume(
    spec: RunSpec, folder: Path, *, steps: int = 20, kills: int = 1, plugins: Sequence[str] = ()
) -> Verification:
    """Train `steps` steps twice in `folder`: once without a break, and once killed `kills` times and resumed.

    Each training is `gptzoo train` in a process of its own, with the plugin files loaded; kills are SIGKILLs. Raises
    GptzooError with the process's stderr if a process fails for another reason.
    """
    every = max(1, steps // (2 * (kills + 1)))
    changes = {"steps": steps, "tokens": None, "epochs": None, "checkpoint": {"every": every, "keep": 2}}
    short = RunSpec.model_validate(
        {**spec.model_dump(mode="json"), **changes, "sample": {"max_new_tokens": 0}, "eval": {"every": every + 1}}
    )
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "run.json", add_provenance(short))
    command = [sys.executable, "-m", "gptzoo", "train", str(folder / "run.json"), "--resume"]
    command += [word for plugin in plugins for word in ("--plugin", plugin)]
    unbroken, killed = folder / "whole", folder / "killed"
    _run_to_end(command, unbroken)
    killed_after = [
        _run_and_kill(command, killed, kill_step=steps * (kill + 1) // (kills + 1)) for kill in range(kills)
    ]
    _run_to_end(command, killed)
    return Verification(steps, tuple(killed_after), tuple(differences(unbroken, killed)))


def differences(a: Path, b: Path) -> Iterator[str]:
    """Describe the differences between two runs: in their newest checkpoints and in each row of metrics."""
    last_a, last_b = newest_valid_checkpoint(a / "checkpoints"), newest_valid_checkpoint(b / "checkpoints")
    if last_a is None or last_b is None or last_a.name != last_b.name:
        yield f"the newest checkpoints are {last_a and last_a.name} and {last_b and last_b.name}"
        return
    files = [{file.name for file in last.glob("*.safetensors")} for last in (last_a, last_b)]
    for file in sorted(files[0] ^ files[1]):
        yield f"only one of the checkpoints has {file}"
    for file in sorted(files[0] & files[1]):
        yield from _tensor_differences(file, read_tensors(last_a / file), read_tensors(last_b / file))
    if (last_a / "state.json").read_bytes() != (last_b / "state.json").read_bytes():
        yield "state.json differs"
    rows_a, rows_b = _deterministic_metrics(a), _deterministic_metrics(b)
    if len(rows_a) != len(rows_b):
        yield f"metrics.jsonl: {len(rows_a)} rows and {len(rows_b)} rows"
    for row_a, row_b in zip(rows_a, rows_b, strict=False):
        for name in sorted({*row_a, *row_b}):
            if row_a.get(name) != row_b.get(name):
                yield f"metrics.jsonl, step {row_a['step']}: {name} is {row_a.get(name)} and {row_b.get(name)}"
                return  # later differences follow from the first one


def _tensor_differences(file: str, a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> Iterator[str]:
    names = sorted({*a, *b})
    different = [n for n in names if n not in a or n not in b or not torch.equal(a[n], b[n])]
    if different:
        more = f" and {len(different) - _MAX_NAMES} more" if len(different) > _MAX_NAMES else ""
        yield f"{file}: {len(different)} of {len(names)} tensors differ: {', '.join(different[:_MAX_NAMES])}{more}"


def _deterministic_metrics(run: Path) -> list[dict[str, Any]]:
    rows = read_metrics(run / "metrics.jsonl")
    return [{name: value for name, value in row.items() if name not in MACHINE_METRICS} for row in rows]


def _run_to_end(command: Sequence[str], out: Path) -> None:
    result = subprocess.run([*command, "--out", str(out)], capture_output=True, text=True)
    if result.returncode != 0:
        raise GptzooError(
            f"gptzoo train --out {out} failed with exit code {result.returncode}:\n{result.stderr.strip()}"
        )


def _run_and_kill(command: Sequence[str], out: Path, *, kill_step: int) -> int:
    """Start the run and kill it when its metrics have step `kill_step`; return the last step in the metrics."""
    process = subprocess.Popen([*command, "--out", str(out)], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    while process.poll() is None and _last_step(out) < kill_step:
        time.sleep(0.002)
    process.kill()
    _, stderr = process.communicate()
    if process.returncode > 0:
        message = stderr.decode().strip()
        raise GptzooError(f"gptzoo train --out {out} failed with exit code {process.returncode}:\n{message}")
    return _last_step(out)


def _last_step(run: Path) -> int:
    """Return the step of the last complete row of metrics, or -1."""
    try:
        complete = (run / "metrics.jsonl").read_text(encoding="utf-8").rpartition("\n")[0]
    except FileNotFoundError:
        return -1
    return int(json.loads(complete.splitlines()[-1])["step"]) if complete else -1
