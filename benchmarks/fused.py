"""Milliseconds of one optimizer step, as torch's loop over parameters, its foreach form and its fused kernel: JSON.

    python benchmarks/fused.py [--device cpu] > fused.json

AdamW and SGD over the parameters of two models, with gradients of random numbers; the median over steps after the first
few. The three take turns, step by step, so that what else the machine does falls on all alike.
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
FORMS = {"loop": {"foreach": False, "fused": False}, "foreach": {"foreach": True}, "fused": {"fused": True}}
WARM = 5  # steps


def measure(optimizer: str, model: str, device: str, steps: int) -> dict[str, Any]:
    """The medians for the parameters of one model."""
    import torch

    import gptzoo

    spec = gptzoo.load_model_spec(MODELS / f"{model}.json", ["vocab_size=8192"])
    options = {"adamw": {"lr": 1e-3, "weight_decay": 0.1}, "sgd": {"lr": 1e-3, "momentum": 0.9}}[optimizer]
    algorithm = {"adamw": torch.optim.AdamW, "sgd": torch.optim.SGD}[optimizer]
    shapes = [parameter.shape for parameter in gptzoo.build(spec, device="meta").parameters()]
    forms = {}
    for form, chosen in FORMS.items():
        parameters = [torch.nn.Parameter(torch.randn(shape, device=device)) for shape in shapes]
        for parameter in parameters:
            parameter.grad = torch.randn_like(parameter)
        forms[form] = algorithm(parameters, **options, **chosen)
    spent: dict[str, list[float]] = {form: [] for form in FORMS}
    for step in range(WARM + steps):
        for form, one in forms.items():
            started = time.perf_counter()
            one.step()
            if device != "cpu":
                torch.cuda.synchronize()
            if step >= WARM:
                spent[form].append(1000 * (time.perf_counter() - started))
    return {
        "optimizer": optimizer,
        "model": model,
        "parameters": sum(shape.numel() for shape in shapes),
        "milliseconds": {form: round(statistics.median(own), 3) for form, own in spent.items()},
    }


def main() -> None:
    import torch

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--steps", type=int, default=30)
    arguments = parser.parse_args()
    cases = [(optimizer, model) for model in ("tiny", "small") for optimizer in ("adamw", "sgd")]
    found = [measure(optimizer, model, arguments.device, arguments.steps) for optimizer, model in cases]
    setting = {"torch": torch.__version__, "threads": torch.get_num_threads(), "device": arguments.device}
    print(json.dumps({**setting, "machine": platform.machine(), "steps": arguments.steps, "cases": found}, indent=2))


if __name__ == "__main__":
    main()
