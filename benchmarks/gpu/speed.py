"""The parts of `benchmarks/gpu.sh speed`, each a process: `python benchmarks/gpu/speed.py PART [cpu]` prints JSON.

"limits"    the device itself: bandwidth of a copy, bf16 matrix products
"train"     nanoGPT's bench.py setting: 124M parameters, batches of 12 x 1024, bf16, compiled, no biases, no dropout
"padded"    the same with a vocabulary of a multiple of 64
"eager"     the same, not compiled
"decode"    a decode step of GPT-2 with CUDA graphs against `transformers` (benchmarks/decode.py)
"batch_1"   a decode step of one row of a random bf16 model of the shape of Llama 2 7B, made on the device, against the
            bandwidth of a copy
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from parts import Part


@dataclass(frozen=True)
class Sizes:
    """The sizes of all parts, real or tiny."""

    copy_bytes: int
    product: int
    batch_size: int
    context_length: int
    model: dict[str, Any]
    vocab_size: int
    padded_vocab_size: int
    steps: int
    llama: dict[str, Any]


GPT2 = {"d_model": 768, "n_layers": 12, "n_heads": 12, "positional": "learned", "bias": False}
LLAMA = {
    "positional": "rope",
    "norm": {"type": "pre_ln", "layer": "rmsnorm"},
    "activation": "silu",
    "bias": False,
    "tie_embeddings": False,
}
REAL = Sizes(
    copy_bytes=2**32,
    product=8192,
    batch_size=12,
    context_length=1024,
    model=GPT2,
    vocab_size=50257,
    padded_vocab_size=50304,
    steps=20,
    llama={
        **LLAMA,
        "vocab_size": 32000,
        "context_length": 2048,
        "d_model": 4096,
        "n_layers": 32,
        "n_heads": 32,
        "ffn": {"type": "glu", "d_ff": 11008},
    },
)
TINY = Sizes(
    copy_bytes=2**20,
    product=64,
    batch_size=2,
    context_length=32,
    model={**GPT2, "d_model": 32, "n_layers": 2, "n_heads": 2},
    vocab_size=257,
    padded_vocab_size=320,
    steps=3,
    llama={
        **LLAMA,
        "vocab_size": 257,
        "context_length": 64,
        "d_model": 32,
        "n_layers": 2,
        "n_heads": 2,
        "ffn": {"type": "glu", "d_ff": 88},
    },
)
WARMUP = 3


class Meter:
    """A clock for a device."""

    def __init__(self, device: Any):
        self.device = device

    def wait(self) -> None:
        import torch

        if self.device.type == "cuda":
            torch.cuda.synchronize()

    def seconds(self, call: Callable[[], Any], n: int) -> list[float]:
        """Return the seconds of `n` calls, each until the device is done, after a warmup."""
        seconds = []
        for index in range(WARMUP + n):
            self.wait()
            started = time.perf_counter()
            call()
            self.wait()
            if index >= WARMUP:
                seconds.append(time.perf_counter() - started)
        return seconds


def spread(values: list[float], digits: int = 3) -> dict[str, float]:
    """Return the median and the quartiles."""
    low, median, high = statistics.quantiles(values, n=4)
    return {"median": round(median, digits), "low": round(low, digits), "high": round(high, digits)}


def copy_bandwidth(device: Any, sizes: Sizes) -> float:
    """Return the bytes per second of a copy in the device's memory, reads and writes together."""
    import torch

    source = torch.ones(sizes.copy_bytes, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    seconds = Meter(device).seconds(lambda: target.copy_(source), 20)
    return 2 * sizes.copy_bytes / statistics.median(seconds)


def limits(device: Any, sizes: Sizes) -> dict[str, Any]:
    import torch

    a, b = (torch.randn(sizes.product, sizes.product, device=device, dtype=torch.bfloat16) for _ in range(2))
    product = statistics.median(Meter(device).seconds(lambda: a @ b, 20))
    return {
        "copy, GB/s": round(copy_bandwidth(device, sizes) / 1e9, 2),
        "bf16 product, TFLOP/s": round(2 * sizes.product**3 / product / 1e12, 3),
    }


def train(device: Any, sizes: Sizes, *, vocab_size: int, compile: bool) -> dict[str, Any]:
    """Time whole training steps: forward, backward, clipping and fused AdamW."""
    import numpy as np
    import torch

    import gptzoo
    from gptzoo.training.hardware.device import float32_matmul_precision
    from gptzoo.training.hardware.peak_flops import peak_flops
    from gptzoo.training.step.block_options import prepare_blocks
    from gptzoo.training.step.micro_batch import split_into_micro_batches
    from gptzoo.training.step.step_timer import StepTimer
    from gptzoo.training.step.train_step import TrainStep

    batch_size, length = sizes.batch_size, sizes.context_length
    model_spec = {**sizes.model, "context_length": length, "dropout": 0.0}
    spec = gptzoo.load_run_spec({"model": model_spec, "steps": 1, "batch_size": batch_size})
    model = gptzoo.build({**model_spec, "vocab_size": vocab_size}).to(device).train()
    prepare_blocks(model, compile=compile, recompute=False)
    parameters = dict(model.named_parameters())
    step = TrainStep(spec, model, parameters, device=device, precision="bf16")
    text = np.random.default_rng(0).integers(0, vocab_size, (batch_size, length + 1))
    batch = {"tokens": text[:, :-1], "targets": text[:, 1:]}
    micro_batches = split_into_micro_batches(batch, batch_size, pin_memory=device.type == "cuda")
    timer, reported = StepTimer(device), []

    def one_step() -> None:
        timer.start()
        gradient = step.accumulate_gradients(micro_batches, len(reported))
        timer.gradient_arrived()
        step.clip_gradients(gradient.total_norm)
        step.set_learning_rates(1.0)
        step.optimizer_step(len(reported))
        step.zero_grad()
        reported.append(timer.stop())

    meter = Meter(device)
    with float32_matmul_precision("bf16"):
        started = time.perf_counter()
        one_step()
        meter.wait()
        first = time.perf_counter() - started
        seconds = meter.seconds(one_step, sizes.steps)
    # As nanoGPT counts: without position embeddings, and with the products of attention over the whole length.
    n_parameters = sum(p.numel() for name, p in parameters.items() if "positionals" not in name)
    attention = 12 * sizes.model["n_layers"] * sizes.model["d_model"] * length
    flops = batch_size * length * (6 * n_parameters + attention)
    peak = peak_flops(device, "bf16")
    median = statistics.median(seconds)
    return {
        "parameters": n_parameters,
        "vocabulary": vocab_size,
        "batch": [batch_size, length],
        "compiled": compile,
        "ms": spread([1000 * value for value in seconds], 2),
        "ms as a run reports it": round(1000 * statistics.median(reported[1 + WARMUP :]), 2),
        "tokens/s": round(batch_size * length / median),
        "TFLOP/s": round(flops / median / 1e12, 4),
        "mfu": None if peak is None else round(flops / median / peak, 4),
        "first step, s": round(first, 1),
        "memory, GiB": round(torch.cuda.max_memory_allocated() / 2**30, 2) if device.type == "cuda" else None,
    }


def batch_1(device: Any, sizes: Sizes) -> dict[str, Any]:
    """Time decode steps of one row, and compare the weights that they read with the bandwidth of a copy."""
    import torch

    import gptzoo
    from gptzoo.sampling.compile.cuda_graphs import CudaGraphRunner

    with torch.inference_mode():
        bandwidth = copy_bandwidth(device, sizes)
        model = gptzoo.build(sizes.llama, device="meta").to(torch.bfloat16).to_empty(device=device).eval()
        for parameter in model.parameters():
            parameter.normal_(std=0.02)
        assert not list(model.buffers())  # they would have no values
        length, n_prompt = sizes.llama["context_length"], sizes.llama["context_length"] // 8
        states = model.new_states(1, length)
        prompt = torch.randint(sizes.llama["vocab_size"], (1, n_prompt), device=device)
        model(prompt, states=states, no_past=True, last_only=True)
        token, position = prompt[:, :1], torch.tensor([[n_prompt]], device=device)
        runner = CudaGraphRunner(model)

        def graph() -> Any:
            return runner(token, position, states)

        def eager() -> Any:
            return model(token, positions=position, states=states)[0]

        meter, n = Meter(device), 30 if device.type == "cuda" else 3
        seconds = {"eager": meter.seconds(eager, n)}
        if device.type == "cuda":
            torch.testing.assert_close(graph(), eager(), rtol=0.05, atol=0.05)
            seconds["graph"] = meter.seconds(graph, n)
    n_bytes = sum(p.numel() * p.element_size() for p in model.parameters()) - model.embed.weight.nbytes
    best = min(statistics.median(values) for values in seconds.values())
    return {
        "parameters": sum(p.numel() for p in model.parameters()),
        "weights read, GB": round(n_bytes / 1e9, 3),
        "ms": {name: spread([1000 * value for value in values]) for name, values in seconds.items()},
        "GB/s": round(n_bytes / best / 1e9, 2),
        "copy, GB/s": round(bandwidth / 1e9, 2),
        "share of the copy's bandwidth": round(n_bytes / best / bandwidth, 3),
    }


MEASUREMENTS: dict[str, Callable[[Any, Sizes], dict[str, Any]]] = {
    "limits": limits,
    "train": lambda device, sizes: train(device, sizes, vocab_size=sizes.vocab_size, compile=True),
    "padded": lambda device, sizes: train(device, sizes, vocab_size=sizes.padded_vocab_size, compile=True),
    "eager": lambda device, sizes: train(device, sizes, vocab_size=sizes.vocab_size, compile=False),
    "batch_1": batch_1,
}


def measurement(name: str, seconds: float) -> Part:
    command = ("benchmarks/gpu/speed.py", name)
    return Part(name, command, seconds, (*command, "cpu"), {"GPTZOO_PLUGINS": "none"})


DECODE = ("-m", "benchmarks.decode", "--part", "bf16", "--one-line", "--device")
PARTS = [
    measurement("limits", 40),
    measurement("train", 110),
    measurement("batch_1", 90),
    Part("decode", (*DECODE, "cuda"), 100, (*DECODE, "cpu", "--tiny"), {"GPTZOO_PLUGINS": "none"}),
    measurement("padded", 90),
    measurement("eager", 60),
]


def main() -> None:
    import torch

    on_cpu = sys.argv[2:] == ["cpu"]
    device = torch.device("cpu" if on_cpu else "cuda")
    result = MEASUREMENTS[sys.argv[1]](device, TINY if on_cpu else REAL)
    name = "cpu" if on_cpu else torch.cuda.get_device_name()
    print(json.dumps({"device": name, **result}))


if __name__ == "__main__":
    main()
