"""Is the training memory that `gptzoo build` states what training takes? Estimates beside measurements, as JSON.

    python benchmarks/memory.py [--case gpt2] [--default-malloc] > memory.json

Each size trains for three steps (fp32, AdamW, CPU) in a process of its own. Measured is how much its resident memory
grows at most beyond what torch has after a first tiny step: the kernel's high-water mark, reset before the model is
built, so Linux only. glibc is told to hand every freed block of 64 KiB or more straight back: what it hoards is noise
here, though in a process without these settings (--default-malloc) it can be a quarter of all, and more in a tiny
model.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

MODELS = Path(__file__).parents[1] / "configs" / "models"
CASES = [
    ("tiny", 12, 64, []),
    ("tiny", 12, 64, ["attention=naive", "dropout=0.1"]),
    ("tiny", 12, 256, []),
    ("tiny", 12, 512, []),
    ("tiny", 12, 512, ["dropout=0.1"]),
    ("tiny", 12, 512, ["attention=naive"]),
    ("tiny", 12, 512, ["attention=naive", "dropout=0.1"]),
    ("small", 8, 512, []),
    ("small", 8, 512, ["attention=naive", "dropout=0.1"]),
    ("local-global", 8, 512, []),
    ("llama-tiny", 8, 256, []),
    ("medium", 1, 256, []),
    ("medium", 4, 512, []),
    ("medium", 4, 512, ["dropout=0.1"]),
    ("medium", 4, 512, ["attention=naive"]),
    ("gpt2", 1, 512, []),
    ("gpt2", 1, 1024, []),
    ("gpt2", 1, 1024, ["dropout=0.1"]),
    ("gpt2", 1, 1024, ["attention=naive"]),
]
QUIET_MALLOC = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536", "MALLOC_TOP_PAD_": "0"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--case", help="only models of this name")
    parser.add_argument("--default-malloc", action="store_true", help="let glibc hoard freed blocks, as it does")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        print(json.dumps(compare(*json.loads(arguments.child))))
        return
    malloc = {} if arguments.default_malloc else QUIET_MALLOC
    rows = [in_own_process(case, malloc) for case in CASES if arguments.case in (None, case[0])]
    print(json.dumps(rows, indent=2))


def in_own_process(case: tuple[str, int, int, list[str]], malloc: dict[str, str]) -> dict[str, Any]:
    command = [sys.executable, __file__, "--child", json.dumps(case)]
    done = subprocess.run(command, env={**os.environ, **malloc}, capture_output=True, text=True, check=True)
    row: dict[str, Any] = json.loads(done.stdout)
    print(f"{row['model']:>14} {row['batch_size']:3} x {row['sequence_length']:<5} {row['ratio']:.3f}", file=sys.stderr)
    return row


def compare(model: str, batch_size: int, sequence_length: int, overrides: list[str]) -> dict[str, Any]:
    """Train, then estimate; bytes of both and estimated / measured."""
    import gptzoo
    from gptzoo.model.accounting import model_costs

    train({"context_length": 64, "vocab_size": 100, "d_model": 64, "n_layers": 1, "n_heads": 2}, 2, 64)
    before = memory("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the high-water mark starts again from here
    spec = gptzoo.load_model_spec(MODELS / f"{model}.json", overrides)
    train(spec, batch_size, sequence_length)
    measured = memory("VmHWM") - before
    costs = model_costs(spec, batch_size=batch_size, sequence_length=sequence_length).training_memory
    assert costs is not None
    return {
        "model": model,
        "overrides": overrides,
        "batch_size": batch_size,
        "sequence_length": sequence_length,
        "estimated_bytes": costs.total_bytes,
        "measured_bytes": measured,
        "ratio": round(costs.total_bytes / measured, 3),
    }


def train(spec: Any, batch_size: int, sequence_length: int) -> None:
    """Three steps as the trainer takes them."""
    import torch

    import gptzoo
    from gptzoo.training.optim.optimizers import AdamW

    model = gptzoo.build(spec).train()
    optimizer = AdamW.Config().build().create(dict(model.named_parameters()))
    for _ in range(3):
        tokens = torch.randint(model.spec.vocab_size, (batch_size, sequence_length))
        _, loss = model(tokens, tokens)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)


def memory(field: str) -> int:
    """Bytes, of this process: `VmRSS` now, `VmHWM` at most so far."""
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(status[field].split()[0]) * 1024


if __name__ == "__main__":
    main()
