"""The overhead of the training loop: the time of a step outside forward, backward and optimizer. Prints JSON.

    python benchmarks/loop.py [--steps 300] > loop.json

The tiny model (0.8M parameters, batches of 12 x 64) trains on the built-in stories, with each batching. The functions
in a step are timed in place, so that the overhead and the total come from the same run. Clipping counts as part of the
optimizer. Evaluations and checkpoints are not included. All figures are medians over the steps after the first 20.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
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

WARMUP_STEPS = 20
CONFIGS = Path(__file__).parents[1] / "configs"


@contextlib.contextmanager
def timed(owner: Any, name: str, seconds: list[float]) -> Iterator[None]:
    """Add the time of each call of a function to the last number of `seconds`."""
    original = getattr(owner, name)

    def wrapper(*args: Any, **kwargs: Any) -> Any:
        started = time.perf_counter()
        try:
            return original(*args, **kwargs)
        finally:
            seconds[-1] += time.perf_counter() - started

    setattr(owner, name, wrapper)
    try:
        yield
    finally:
        setattr(owner, name, original)


def measure(batching: str, steps: int, folder: Path) -> dict[str, float]:
    """Return the median times of a step in milliseconds, and the loop's own fraction of it."""
    import torch

    import gptzoo
    from gptzoo.training.step.train_step import TrainStep
    from gptzoo.training.trainer import Trainer

    timed_seconds: list[float] = []
    starts: list[float] = []
    original: Callable[..., Any] = Trainer._train_on

    def train_on(self: Any, *args: Any) -> Any:
        starts.append(time.perf_counter())
        timed_seconds.append(0.0)
        return original(self, *args)

    spec = {
        "model": str(CONFIGS / "models" / "tiny.json"),
        "batching": batching,
        "batch_size": 12,
        "steps": steps + WARMUP_STEPS,
        "eval": {"every": 10**6},
        "checkpoint": {"every": 10**6},
    }
    Trainer._train_on = train_on  # type: ignore[method-assign]
    with contextlib.ExitStack() as stack:
        stack.callback(setattr, Trainer, "_train_on", original)
        stack.enter_context(timed(TrainStep, "forward", timed_seconds))
        stack.enter_context(timed(torch.Tensor, "backward", timed_seconds))
        stack.enter_context(timed(torch.nn.utils, "get_total_norm", timed_seconds))
        stack.enter_context(timed(torch.nn.utils, "clip_grads_with_norm_", timed_seconds))
        stack.enter_context(timed(torch.optim.AdamW, "step", timed_seconds))
        run = gptzoo.load_run_spec(spec, ["model.context_length=64", "model.vocab_size=null"])
        gptzoo.train(run, folder, quiet=True)
    starts, timed_seconds = starts[WARMUP_STEPS:], timed_seconds[WARMUP_STEPS:-1]
    steps_ms = [1000 * (after - before) for before, after in itertools.pairwise(starts)]
    model_ms = [1000 * seconds for seconds in timed_seconds]
    overhead = statistics.median(1 - model / step for model, step in zip(model_ms, steps_ms, strict=True))
    return {
        "step_ms": round(statistics.median(steps_ms), 3),
        "model_and_optimizer_ms": round(statistics.median(model_ms), 3),
        "share_of_the_loop": round(overhead, 4),
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
