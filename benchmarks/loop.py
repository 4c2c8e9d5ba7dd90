"""What a training step costs beside the model: the time outside of forward, backward and optimizer, as JSON.

    python benchmarks/loop.py [--steps 300] > loop.json

The tiny shape (0.8M parameters, 12 x 64) trains on the embedded stories; the parts of each step are timed in place, so
that the share is of one and the same run. Clipping counts as the optimizer's. Evaluation and checkpoints are left out:
they are as often as the spec says. Medians over the steps after the first 20; with each batching.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

WARM = 20  # steps
CONFIGS = Path(__file__).parents[1] / "configs"


@contextlib.contextmanager
def timed(owner: Any, name: str, spent: list[float]) -> Iterator[None]:
    """Add the time inside of a method to the last number of `spent`."""
    original = getattr(owner, name)

    def wrapper(*args: Any, **kwargs: Any) -> Any:
        started = time.perf_counter()
        try:
            return original(*args, **kwargs)
        finally:
            spent[-1] += time.perf_counter() - started

    setattr(owner, name, wrapper)
    try:
        yield
    finally:
        setattr(owner, name, original)


def measure(batching: str, steps: int, folder: Path) -> dict[str, float]:
    """Medians over the steps of one run, in milliseconds, and the share of a step that is the loop's own."""
    import torch

    import gptzoo
    from gptzoo.training.step.train_step import Update
    from gptzoo.training.trainer import Trainer

    inside: list[float] = []
    marks: list[float] = []
    original: Callable[..., Any] = Trainer._update

    def update(self: Any, *args: Any) -> Any:
        marks.append(time.perf_counter())
        inside.append(0.0)
        return original(self, *args)

    spec = {
        "model": str(CONFIGS / "models" / "tiny.json"),
        "batching": batching,
        "batch_size": 12,
        "steps": steps + WARM,
        "eval": {"every": 10**6},
        "checkpoint": {"every": 10**6},
    }
    Trainer._update = update  # type: ignore[method-assign]
    with contextlib.ExitStack() as stack:
        stack.callback(setattr, Trainer, "_update", original)
        stack.enter_context(timed(Update, "_forward", inside))
        stack.enter_context(timed(torch.Tensor, "backward", inside))
        stack.enter_context(timed(torch.nn.utils, "get_total_norm", inside))
        stack.enter_context(timed(torch.nn.utils, "clip_grads_with_norm_", inside))
        stack.enter_context(timed(torch.optim.AdamW, "step", inside))
        run = gptzoo.load_run_spec(spec, ["model.context_length=64", "model.vocab_size=null"])
        gptzoo.train(run, folder, quiet=True)
    whole = [1000 * (after - before) for before, after in zip(marks[WARM:], marks[WARM + 1 :], strict=False)]
    model = [1000 * spent for spent in inside[WARM:-1]]
    share = statistics.median(1 - part / step for part, step in zip(model, whole, strict=True))
    return {
        "step_ms": round(statistics.median(whole), 3),
        "model_and_optimizer_ms": round(statistics.median(model), 3),
        "share_of_the_loop": round(share, 4),
    }


def main() -> None:
    import torch

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=300)
    steps = parser.parse_args().steps
    with tempfile.TemporaryDirectory() as folder:
        rows = {batching: measure(batching, steps, Path(folder) / batching) for batching in ("windows", "packed")}
    setting = {"shape": "tiny, 12 x 64", "steps": steps, "threads": torch.get_num_threads(), "torch": torch.__version__}
    print(json.dumps({**setting, "machine": platform.machine(), "batching": rows}, indent=2))


if __name__ == "__main__":
    main()
