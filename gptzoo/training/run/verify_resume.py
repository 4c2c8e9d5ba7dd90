"""Proof of the promise about resuming, for one run: it is trained whole, and killed and resumed, and compared."""

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

from gptzoo.checkpoint.checkpoints import newest_valid
from gptzoo.checkpoint.model_folder import read_tensors
from gptzoo.errors import GptzooError
from gptzoo.spec.provenance import stamped
from gptzoo.spec.run import RunSpec
from gptzoo.training.run.metrics_file import read
from gptzoo.utils.atomic import write_json

CLOCKED = frozenset({"tokens_per_second", "mfu", "memory_gib"})  # metrics of the clock and the machine
_SHOWN = 5


@dataclass(frozen=True)
class Verification:
    """What came of it: how often and where the run was killed, and what is different at the end."""

    steps: int
    killed_after: tuple[int, ...]  # the last step that its metrics told of
    differences: tuple[str, ...]

    @property
    def holds(self) -> bool:
        return not self.differences


def verify_resume(
    spec: RunSpec, folder: Path, *, steps: int = 20, kills: int = 1, plugins: Sequence[str] = ()
) -> Verification:
    """Train `steps` steps of a run twice in `folder`: whole, and killed by SIGKILL `kills` times and resumed.

    Each training is `gptzoo train` in a process of its own; `plugins` are files that it loads. Raises GptzooError with
    what it said when one fails for another reason.
    """
    every = max(1, steps // (2 * (kills + 1)))
    changes = {"steps": steps, "tokens": None, "epochs": None, "checkpoint": {"every": every, "keep": 2}}
    short = RunSpec.model_validate(
        {**spec.model_dump(mode="json"), **changes, "sample": {"max_new_tokens": 0}, "eval": {"every": every + 1}}
    )
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "run.json", stamped(short))
    command = [sys.executable, "-m", "gptzoo", "train", str(folder / "run.json"), "--resume"]
    command += [word for plugin in plugins for word in ("--plugin", plugin)]
    whole, killed = folder / "whole", folder / "killed"
    _finish(command, whole)
    at = tuple(_kill(command, killed, after=steps * (kill + 1) // (kills + 1)) for kill in range(kills))
    _finish(command, killed)
    return Verification(steps, at, tuple(differences(whole, killed)))


def differences(a: Path, b: Path) -> Iterator[str]:
    """What differs between two runs that should be one: the newest checkpoint and every row of metrics."""
    last_a, last_b = newest_valid(a / "checkpoints"), newest_valid(b / "checkpoints")
    if last_a is None or last_b is None or last_a.name != last_b.name:
        yield f"the newest checkpoint is {last_a and last_a.name} of the one, {last_b and last_b.name} of the other"
        return
    files = [{file.name for file in last.glob("*.safetensors")} for last in (last_a, last_b)]
    for file in sorted(files[0] ^ files[1]):
        yield f"only one of the checkpoints has {file}"
    for file in sorted(files[0] & files[1]):
        yield from _in_tensors(file, read_tensors(last_a / file), read_tensors(last_b / file))
    if (last_a / "state.json").read_bytes() != (last_b / "state.json").read_bytes():
        yield "state.json is not the same"
    rows_a, rows_b = _rows(a), _rows(b)
    if len(rows_a) != len(rows_b):
        yield f"metrics.jsonl: {len(rows_a)} rows and {len(rows_b)}"
    for row_a, row_b in zip(rows_a, rows_b, strict=False):
        for name in sorted({*row_a, *row_b}):
            if row_a.get(name) != row_b.get(name):
                yield f"metrics.jsonl, step {row_a['step']}: {name} is {row_a.get(name)} and {row_b.get(name)}"
                return  # what follows from one difference is no news


def _in_tensors(file: str, a: Mapping[str, Any], b: Mapping[str, Any]) -> Iterator[str]:
    names = sorted({*a, *b})
    different = [n for n in names if n not in a or n not in b or not torch.equal(a[n], b[n])]
    if different:
        more = f" and {len(different) - _SHOWN} more" if len(different) > _SHOWN else ""
        yield f"{file}: {len(different)} of {len(names)} tensors differ: {', '.join(different[:_SHOWN])}{more}"


def _rows(run: Path) -> list[dict[str, Any]]:
    rows = read(run / "metrics.jsonl")
    return [{name: value for name, value in row.items() if name not in CLOCKED} for row in rows]


def _finish(command: Sequence[str], out: Path) -> None:
    done = subprocess.run([*command, "--out", str(out)], capture_output=True, text=True)
    if done.returncode != 0:
        raise GptzooError(f"gptzoo train --out {out} left with {done.returncode}:\n{done.stderr.strip()}")


def _kill(command: Sequence[str], out: Path, *, after: int) -> int:
    """Start the run and kill it as soon as its metrics tell of step `after`; returns the last step that they have."""
    process = subprocess.Popen([*command, "--out", str(out)], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    while process.poll() is None and _last_step(out) < after:
        time.sleep(0.002)
    process.kill()
    _, said = process.communicate()
    if process.returncode > 0:
        raise GptzooError(f"gptzoo train --out {out} left with {process.returncode}:\n{said.decode().strip()}")
    return _last_step(out)


def _last_step(run: Path) -> int:
    """The step of the last whole row of metrics; -1 without one."""
    try:
        whole = (run / "metrics.jsonl").read_text(encoding="utf-8").rpartition("\n")[0]
    except FileNotFoundError:
        return -1
    return int(json.loads(whole.splitlines()[-1])["step"]) if whole else -1
