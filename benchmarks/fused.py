"""The time of an optimizer step with torch's loop, foreach and fused implementations. Prints JSON.

    python benchmarks/fused.py [--device cpu] > fused.json

AdamW and SGD update the parameters of two models with random gradients. Times are medians in milliseconds, after a few
warmup steps. The implementations take turns step by step, so that other load on the machine affects all of them.
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

os.environ.setdefault("OMP_NUM_THREADS", "1")

MODELS = Path(__file__).parents[1] / "configs" / "models"
IMPLEMENTATIONS = {"loop": {"foreach": False, "fused": False}, "foreach": {"foreach": True}, "fused": {"fused": True}}
WARMUP_STEPS = 5


def measure(optimizer: str, model: str, device: str, steps: int) -> dict[str, Any]:
    """Return the median times for the parameters of one model."""
    import torch

    import gptzoo

    spec = gptzoo.load_model_spec(MODELS / f"{model}.json", ["vocab_size=8192"])
    options = {"adamw": {"lr": 1e-3, "weight_decay": 0.1}, "sgd": {"lr": 1e-3, "momentum": 0.9}}[optimizer]
    algorithm = {"adamw": torch.optim.AdamW, "sgd": torch.optim.SGD}[optimizer]
    shapes = [parameter.shape for parameter in gptzoo.build(spec, device="meta").parameters()]
    optimizers = {}
    for name, flags in IMPLEMENTATIONS.items():
        parameters = [torch.nn.Parameter(torch.randn(shape, device=device)) for shape in shapes]
        for parameter in parameters:
            parameter.grad = torch.randn_like(parameter)
        optimizers[name] = algorithm(parameters, **options, **flags)
    times: dict[str, list[float]] = {name: [] for name in IMPLEMENTATIONS}
    for step in range(WARMUP_STEPS + steps):
        for name, torch_optimizer in optimizers.items():
            started = time.perf_counter()
            torch_optimizer.step()
            if device != "cpu":
                torch.cuda.synchronize()
            if step >= WARMUP_STEPS:
                times[name].append(1000 * (time.perf_counter() - started))
    return {
        "optimizer": optimizer,
        "model": model,
        "parameters": sum(shape.numel() for shape in shapes),
        "milliseconds": {name: round(statistics.median(values), 3) for name, values in times.items()},
    }


def main() -> None:
    import torch

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--steps", type=int, default=30)
    arguments = parser.parse_args()
    cases = [(optimizer, model) for model in ("tiny", "small") for optimizer in ("adamw", "sgd")]
    rows = [measure(optimizer, model, arguments.device, arguments.steps) for optimizer, model in cases]
    setting = {"torch": torch.__version__, "threads": torch.get_num_threads(), "device": arguments.device}
    print(json.dumps({**setting, "machine": platform.machine(), "steps": arguments.steps, "cases": rows}, indent=2))


if __name__ == "__main__":
    main()
