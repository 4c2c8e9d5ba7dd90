"""What a step of speculation costs beside a step without: how many proposals must be accepted for it to pay.

    python benchmarks/speculation.py

GPT-2 of 124M parameters and a draft of 2 layers of width 256, both with random weights in fp32 as `gptzoo sample` lays
them out; on two threads of a CPU, with 48 tokens in the cache. Each turn has one step that reads one token a row
(`step`), one that reads one and the proposals after it and takes the proposals back (`verify`), and one of the draft
(`draft`). A ratio is the median over the turns of what one turn gives, with its quartiles: of `verify` and all steps of
the draft to `step`. That many tokens a step must bring to be as quick as a step without; it brings 1 and what is
accepted. The processors and the drawing of tokens are not in it.
"""

from __future__ import annotations

import json
import platform
import statistics
import time
from pathlib import Path
from typing import Any

import torch

import gptzoo
from gptzoo.sampling.engine.kv_cache_manager import KVCacheManager

THREADS, CACHED, WARM, TURNS = 2, 48, 3, 24
N_AHEAD = 4
BATCHES = (1, 8)
OUT = Path(__file__).parent / "results" / "speculation-cpu.json"


def reader(batch: int, **sizes: int) -> KVCacheManager:
    spec = {"vocab_size": 50257, "context_length": 1024, "positional": "learned", **sizes}
    made = KVCacheManager(gptzoo.prepare_for_inference(gptzoo.build(spec)), batch, 1024)
    made.read([[1] * CACHED] * batch)
    return made


def read(made: KVCacheManager, batch: int, n_tokens: int) -> float:
    """Milliseconds to read so many tokens a row; they are taken back, so that each turn finds the same."""
    started = time.perf_counter()
    made.mark(batch)
    made.read([[2] * n_tokens] * batch)
    made.take_back([n_tokens] * batch)
    return 1000 * (time.perf_counter() - started)


@torch.inference_mode()
def compare(batch: int) -> dict[str, Any]:
    large = reader(batch, n_layers=12, d_model=768, n_heads=12)
    draft = reader(batch, n_layers=2, d_model=256, n_heads=4)
    spent: dict[str, list[float]] = {"step": [], "verify": [], "draft": []}
    for turn in range(WARM + TURNS):
        times = read(large, batch, 1), read(large, batch, 1 + N_AHEAD), read(draft, batch, 1)
        if turn >= WARM:
            for own, milliseconds in zip(spent.values(), times, strict=True):
                own.append(milliseconds)
    ratios = [(v + N_AHEAD * d) / s for s, v, d in zip(*spent.values(), strict=True)]
    low, median, high = statistics.quantiles(ratios, n=4)
    return {
        "ms": {name: round(statistics.median(own), 2) for name, own in spent.items()},
        "tokens_to_pay": {"median": round(median, 3), "quartiles": [round(low, 3), round(high, 3)]},
    }


def main() -> None:
    torch.set_num_threads(THREADS)
    report = {
        "what": __doc__.partition("\n")[0],
        "n_ahead": N_AHEAD,
        "threads": THREADS,
        "torch": torch.__version__,
        "machine": platform.machine(),
        "turns": TURNS,
        "batch": {str(batch): compare(batch) for batch in BATCHES},
    }
    OUT.write_text(json.dumps(report, indent=2) + "\n")
    print(json.dumps(report["batch"], indent=2))


if __name__ == "__main__":
    main()
