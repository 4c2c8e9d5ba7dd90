"""CPU seconds until a command does its work, against its limit on top of the import of torch.

Each command is a process of its own, as a user starts it, with all installed packages of components. Its limit is a
side as well: an import of torch in the same round plus the seconds that a command may add, or seconds alone. So "limit
/ gptzoo" of at least 1 holds the limit. Values are CPU seconds of the process and its children: other load on the
machine affects them less.

gptzoo --help   does not import torch
gptzoo build    each configuration in configs/models
gptzoo train    one step of a tiny run, with tokens in the cache
gptzoo ablate   the dry run of 30 variants
"""

from __future__ import annotations

import itertools
import json
import sys
from collections.abc import Iterator, Sequence
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any

from benchmarks.harness.case import OURS, Case, Mismatch, Options
from benchmarks.harness.environment import ROOT
from benchmarks.harness.processes import Finished, run_command

GPTZOO = (sys.executable, "-m", "gptzoo")
IMPORT_TORCH = (sys.executable, "-c", "import torch")
RUN: dict[str, Any] = {
    "model": {"context_length": 16, "d_model": 16, "n_layers": 1, "n_heads": 2},
    "corpus": {"type": "text", "path": "text.txt", "val_fraction": 0.2},
    "tokenizer": "byte",
    "batch_size": 2,
    "steps": 1,
}
ABLATION: dict[str, Any] = {
    "base": RUN,
    "axes": {
        "model.activation": ["relu", "gelu", "silu"],
        "model.positional": ["learned", "rope"],
        "optimizer.lr": [0.001, 0.002, 0.003, 0.004, 0.005],
    },
    "samples": False,
}


def cases(options: Options) -> Iterator[Case]:
    (options.folder / "text.txt").write_text("To be, or not to be, that is the question. " * 400)
    (options.folder / "run.json").write_text(json.dumps(RUN))
    (options.folder / "ablation.json").write_text(json.dumps(ABLATION))
    yield _case("help", ["--help"], options, limit=0.2, after_torch=False, expected="Usage:")
    configs = sorted((ROOT / "configs" / "models").glob("*.json"))
    for config in configs[:1] if options.tiny else configs:
        yield _case(f"build {config.stem}", ["build", config], options, limit=0.8, expected="parameters")
    yield _case(
        "one step of train",
        ["train", "run.json", "--out", "run-{number}", "--no-plot"],
        options,
        limit=1.0,
        expected="",
    )
    if not options.tiny:
        ablate = ["ablate", "ablation.json", "--dry-run", "--out", "ablation-{number}"]
        yield _case("dry run of 30 variants", ablate, options, limit=5.0, after_torch=False, expected="30")


def _case(
    name: str,
    arguments: Sequence[str | Path],
    options: Options,
    *,
    limit: float,
    after_torch: bool = True,
    expected: str,
) -> Case:
    """Return the case of a command. `expected` is in its output; {number} in an argument is different in each call."""
    numbers = itertools.count()

    def run() -> Finished:
        number = next(numbers)
        words = [word.format(number=number) if isinstance(word, str) else word for word in arguments]
        return run_command([*GPTZOO, *words], folder=options.folder)

    def check() -> None:
        if expected not in (output := run().output):
            raise Mismatch(f"the output of gptzoo {arguments[0]} has no {expected!r}: {output[-500:]}")

    limit_name = f"import torch + {limit} s" if after_torch else f"{limit} s"
    return Case(
        name,
        {
            OURS: lambda: run().cpu_seconds,
            limit_name: partial(_import_torch_and, limit, options.folder) if after_torch else lambda: limit,
        },
        check,
        settings={"packages": len(metadata.entry_points(group="gptzoo")) - 1},
        unit="CPU s",
        rounds=7,
        untimed=0,
        warmup=1,
    )


def _import_torch_and(seconds: float, folder: Path) -> float:
    return run_command(IMPORT_TORCH, folder=folder).cpu_seconds + seconds
