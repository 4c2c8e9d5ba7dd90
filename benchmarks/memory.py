"""The training memory that `gptzoo build` estimates, compared with measurements. Prints JSON.

    python benchmarks/memory.py [--case gpt2] [--default-malloc] > memory.json

Each model trains for three steps (fp32, AdamW, CPU) in a process of its own. The measurement is the growth of its peak
resident memory after a first tiny step. It is the kernel's high-water mark, which is reset before the model is built,
so it needs Linux. glibc is configured to return every freed block of 64 KiB or more at once. Without this
(--default-malloc), cached blocks can be a quarter of all memory, and more for a tiny model.
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
EAGER_FREE = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536", "MALLOC_TOP_PAD_": "0"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--case", help="run only the cases of this model")
    parser.add_argument("--default-malloc", action="store_true", help="use glibc's default settings")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        print(json.dumps(compare(*json.loads(arguments.child))))
        return
    malloc = {} if arguments.default_malloc else EAGER_FREE
    rows = [run_in_subprocess(case, malloc) for case in CASES if arguments.case in (None, case[0])]
    print(json.dumps(rows, indent=2))


def run_in_subprocess(case: tuple[str, int, int, list[str]], malloc: dict[str, str]) -> dict[str, Any]:
    """Run one case in a new process with these settings of glibc."""
    command = [sys.executable, __file__, "--child", json.dumps(case)]
    result = subprocess.run(command, env={**os.environ, **malloc}, capture_output=True, text=True, check=True)
    row: dict[str, Any] = json.loads(result.stdout)
    print(f"{row['model']:>14} {row['batch_size']:3} x {row['sequence_length']:<5} {row['ratio']:.3f}", file=sys.stderr)
    return row


def compare(model: str, batch_size: int, sequence_length: int, overrides: list[str]) -> dict[str, Any]:
    """Train, then estimate; return the bytes of both, and estimated / measured."""
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
    """Do three steps as the trainer does them."""
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
    """Return the current (`VmRSS`) or peak (`VmHWM`) resident bytes of this process."""
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(status[field].split()[0]) * 1024


if __name__ == "__main__":
    main()
