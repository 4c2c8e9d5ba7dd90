"""Cost of speculative decoding relative to plain decoding: how many draft tokens must be accepted to break even.

    python -m benchmarks.speculation

The target model is GPT-2 with 124M parameters, and the draft model has 2 layers of width 256. Both have random fp32
weights, prepared as `gptzoo sample` does, and run on two CPU threads with 48 tokens in the cache. Each turn times a
decode step of one token per row (`step`), a decode step of one token and all draft tokens per row with its rollback
(`verify`), and a decode step of the draft model (`draft`).

`tokens_to_pay` is the ratio of `verify` plus all draft steps to `step`: the number of tokens per step from which
speculation pays. A step gives one token and the accepted draft tokens. The ratio is computed for each turn, and the
median over the turns and the quartiles are reported. Logits processors and sampling are not included.
"""

from __future__ import annotations

import json
import platform
import statistics
import time
from functools import partial
from pathlib import Path
from typing import Any

import torch

import gptzoo
from benchmarks.harness.turns import collect, take_turns
from gptzoo.sampling.engine.kv_cache_manager import KVCacheManager

N_THREADS, CACHED, WARMUP_TURNS, TURNS = 2, 48, 3, 24
N_DRAFT_TOKENS = 4
BATCH_SIZES = (1, 8)
OUT = Path(__file__).parent / "results" / "speculation-cpu.json"


def build_cache(batch: int, **sizes: int) -> KVCacheManager:
    """Build a model of the given sizes and fill its KV cache."""
    spec = {"vocab_size": 50257, "context_length": 1024, "positional": "learned", **sizes}
    cache = KVCacheManager(gptzoo.prepare_for_inference(gptzoo.build(spec)), batch, 1024)
    cache.decode([[1] * CACHED] * batch)
    return cache


def time_decode(cache: KVCacheManager, batch: int, n_tokens: int) -> float:
    """Return the milliseconds to decode `n_tokens` per row and roll them back."""
    started = time.perf_counter()
    cache.snapshot(batch)
    cache.decode([[2] * n_tokens] * batch)
    cache.rollback([n_tokens] * batch)
    return 1000 * (time.perf_counter() - started)


@torch.inference_mode()
def compare(batch: int) -> dict[str, Any]:
    """Measure the times and the ratio for one batch size."""
    target = build_cache(batch, n_layers=12, d_model=768, n_heads=12)
    draft = build_cache(batch, n_layers=2, d_model=256, n_heads=4)
    calls = {
        "step": partial(time_decode, target, batch, 1),
        "verify": partial(time_decode, target, batch, 1 + N_DRAFT_TOKENS),
        "draft": partial(time_decode, draft, batch, 1),
    }
    milliseconds = collect(take_turns(calls, TURNS, warmup=WARMUP_TURNS))
    ratios = [(v + N_DRAFT_TOKENS * d) / s for s, v, d in zip(*milliseconds.values(), strict=True)]
    low, median, high = statistics.quantiles(ratios, n=4)
    return {
        "ms": {name: round(statistics.median(values), 2) for name, values in milliseconds.items()},
        "tokens_to_pay": {"median": round(median, 3), "quartiles": [round(low, 3), round(high, 3)]},
    }


def main() -> None:
    torch.set_num_threads(N_THREADS)
    report = {
        "what": __doc__.partition("\n")[0],
        "n_ahead": N_DRAFT_TOKENS,
        "threads": N_THREADS,
        "torch": torch.__version__,
        "machine": platform.machine(),
        "turns": TURNS,
        "batch": {str(batch): compare(batch) for batch in BATCH_SIZES},
    }
    OUT.write_text(json.dumps(report, indent=2) + "\n")
    print(json.dumps(report["batch"], indent=2))


if __name__ == "__main__":
    main()
