"""The rate at which an ablation's variants are enumerated, compared with reading each spec by itself.

    python benchmarks/enumeration.py [--rounds 5] [--out benchmarks/results/enumeration-cpu.json]

The design has four axes. Some of its points are excluded by a condition, others because they are no valid spec, and
each excluded point has its reason. "variants" enumerates the design by `gptzoo.variants`, from the JSON of the base to
named variants. "one by one" reads the JSON of each valid variant by `RunSpec.model_validate`, without names, hashes and
exclusions. Both take turns. Before the rounds, the specs of both are compared. Times are CPU seconds of one process, so
that other load on the machine affects them less.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import time
from pathlib import Path
from typing import Any

os.environ["GPTZOO_PLUGINS"] = "none"  # the same components everywhere

import torch

import gptzoo

BASE: dict[str, Any] = {
    "model": {"context_length": 64, "d_model": 64, "n_layers": 4, "n_heads": 4},
    "corpus": "tinyshakespeare",
    "tokenizer": "byte",
    "batch_size": 8,
    "steps": 100,
}
AXES: dict[str, Any] = {
    "model.positional": ["learned", "sinusoidal", "rope", "none"],
    "model.activation": ["relu", "gelu", "silu"],
    "model.n_heads": [1, 2, 3, 4, 8],  # 3 does not divide d_model
    "optimizer.lr": [round(1e-4 * 1.05**power, 8) for power in range(60)],
}
EXCLUDE = [{"when": {"model.positional": "none", "model.activation": "relu"}, "because": "measured before"}]


def measure(n_rounds: int) -> dict[str, Any]:
    """Time both sides in each round."""
    found = gptzoo.variants(BASE, AXES, exclude=EXCLUDE)
    assert all(exclusion.reason for exclusion in found.exclusions)
    texts = [json.dumps(variant.spec.resolved()) for variant in found]
    read = [gptzoo.RunSpec.model_validate(json.loads(text)) for text in texts]
    assert [spec.resolved() for spec in read] == [variant.spec.resolved() for variant in found]
    rates: dict[str, list[float]] = {"variants": [], "one by one": []}
    for _ in range(n_rounds):
        started = time.process_time()
        gptzoo.variants(BASE, AXES, exclude=EXCLUDE)
        rates["variants"].append(len(found) / (time.process_time() - started))
        started = time.process_time()
        for text in texts:
            gptzoo.RunSpec.model_validate(json.loads(text))
        rates["one by one"].append(len(found) / (time.process_time() - started))
    ratios = [a / b for a, b in zip(*rates.values(), strict=True)]
    return {
        "variants": len(found),
        "exclusions": len(found.exclusions),
        "per_second": {side: round(statistics.median(values)) for side, values in rates.items()},
        "range": {side: [round(min(values)), round(max(values))] for side, values in rates.items()},
        "ratio": round(statistics.median(ratios), 2),
        "ratio_range": [round(min(ratios), 2), round(max(ratios), 2)],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    machine = {"torch": torch.__version__, "python": platform.python_version(), "cores": os.cpu_count()}
    text = json.dumps({"machine": machine, **measure(arguments.rounds)}, indent=2)
    print(text)
    if arguments.out is not None:
        arguments.out.write_text(text + "\n")


if __name__ == "__main__":
    main()
