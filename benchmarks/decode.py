"""Time per generated token, relative to its matrix products alone and to `transformers`.

    python -m benchmarks.decode --part fp32     # or bf16, int8, first_token, far; all parts share one result file

The model is GPT-2 with 124M parameters and random weights, made by `transformers` and imported as `gptzoo import-hf`
does. It runs on two CPU threads, or with `--device cuda`, which has not been run yet. The compared calls take turns, so
that other load on the machine affects all of them. In its turn each call runs twice and the second run is timed, so
that each starts with the processor caches in its own state. A ratio is computed for each turn; reported are the median
over the turns and the quartiles.

"fp32", "bf16", "int8"  a decode step, including the head, for batch sizes 1 and 16 with 24 to 63 tokens in a cache for
                        64. `bare`: only the matrix products, with the same shapes and dtype, by `F.linear` or with
                        packed weights, whichever is faster. `transformers`: its decode step with its own cache (int8:
                        in bf16). `unprepared`: without `prepare_for_inference`. `compiled`: with `--compile`, on CUDA
                        with CUDA graphs.
"first_token"           the prefill of a prompt of 512 tokens, up to the logits of the first new token; fp32
"far"                   a decode step at 970 to 999 tokens, relative to one at 10 to 39 tokens; fp32. The products of
                        attention with the cache are also timed alone, and subtracted for "apart from attention".
"""

from __future__ import annotations

import argparse
import copy
import itertools
import json
import platform
import statistics
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.harness.statistics import ratios
from benchmarks.harness.turns import collect, take_turns

if TYPE_CHECKING:
    from gptzoo.sampling.inference_weights import WeightFormat

N_THREADS = 2
NEAR, PROMPT_LENGTH, FAR = 24, 512, 970  # tokens in the cache
MAX_STEPS = 40  # decode steps per call
TURNS = {16: 12, 1: 16}  # by batch size; a turn takes two steps, and warm-up and check also count for MAX_STEPS
WARMUP_TURNS = 3
RESULTS = Path(__file__).parent / "results"
DEVICE = torch.device("cpu")
SIZES = {"n_layer": 12, "n_embd": 768, "n_head": 12, "vocab_size": 50257}  # GPT-2; `--tiny` changes them
TINY = {"n_layer": 2, "n_embd": 32, "n_head": 2, "vocab_size": 257, "bos_token_id": 0, "eos_token_id": 0}

Call = Callable[[], Tensor]


def build_models() -> tuple[Any, Any]:
    """Return GPT-2 from `transformers` and from gptzoo, with the same random weights."""
    from transformers import GPT2Config, GPT2LMHeadModel

    import gptzoo
    from gptzoo.interop.gpt2 import GPT2Importer
    from gptzoo.interop.settings import Settings

    torch.manual_seed(0)
    theirs = GPT2LMHeadModel(GPT2Config(**SIZES)).eval().to(DEVICE)
    importer = GPT2Importer(GPT2Importer.Config())
    spec = gptzoo.load_model_spec(importer.spec(Settings(theirs.config.to_dict())))
    ours, stored = gptzoo.build(spec).eval().to(DEVICE), theirs.transformer.state_dict()
    weights = {w.name: w.convert(*(stored[source] for source in w.source_names)) for w in importer.weights(spec)}
    ours.load_state_dict(weights)
    return theirs, ours


def random_tokens(batch: int, length: int) -> Tensor:
    return torch.randint(SIZES["vocab_size"], (batch, length), generator=torch.Generator().manual_seed(length)).to(
        DEVICE
    )


def with_compiled_steps(model: Any) -> Any:
    """Return a model that shares the weights and has compiled decode steps."""
    from gptzoo.sampling.compile.decode_step import compile_decoding

    compiled = copy.copy(model)
    compile_decoding(compiled)
    return compiled


def our_step(model: Any, batch: int, length: int) -> Call:
    """Return a decode step of gptzoo. It starts with `length` tokens in the cache and adds one per call."""
    from gptzoo.sampling.compile.cuda_graphs import CudaGraphRunner
    from gptzoo.sampling.compile.decode_step import is_compiled

    states = model.new_states(batch, length + MAX_STEPS)  # as `generate` does
    model(random_tokens(batch, length), states=states, no_past=True, last_only=True)
    position, token = itertools.count(length), random_tokens(batch, 1)
    if DEVICE.type == "cuda" and is_compiled(model):
        step = CudaGraphRunner(model)
        return lambda: step(token, torch.tensor([[next(position)]], device=DEVICE), states)[:, -1]
    return lambda: model(token, positions=torch.tensor([[next(position)]], device=DEVICE), states=states)[0][:, -1]


def their_step(model: Any, batch: int, length: int) -> Call:
    """Return a decode step of `transformers`, as `our_step` does for gptzoo."""
    cache = model(random_tokens(batch, length), use_cache=True, logits_to_keep=1).past_key_values
    token = random_tokens(batch, 1)
    return lambda: model(token, past_key_values=cache, use_cache=True).logits[:, -1]


def attention_only(model: Any, length: int) -> Call:
    """Return the attention of all layers with `length` cached tokens, for one row and without projections."""
    states = model.new_states(1, length + MAX_STEPS)
    caches = [tuple(s["attention"][name][:, :length].transpose(1, 2) for name in ("k", "v")) for s in states]
    query = torch.randn(1, SIZES["n_head"], 1, SIZES["n_embd"] // SIZES["n_head"], device=DEVICE)
    return lambda: [F.scaled_dot_product_attention(query, k, v) for k, v in caches][-1]


def products_only(model: Any, batch: int) -> Call:
    """Return the matrix products of a decode step, on random inputs of the right shapes."""
    layers = [
        m for block in model.blocks for m in (block.attention.qkv, block.attention.out, block.ffn.up, block.ffn.down)
    ]
    dtype, head = model.embed.weight.dtype, model.head
    narrow, wide = (
        torch.randn(batch, 1, width, dtype=dtype, device=DEVICE) for width in (SIZES["n_embd"], 4 * SIZES["n_embd"])
    )

    def run() -> Tensor:
        for index, layer in enumerate(layers):
            layer(wide if index % 4 == 3 else narrow)
        return F.linear(narrow, model.embed.weight) if head.packed is None else head.packed(narrow)

    return run


def time_in_turns(calls: Mapping[str, Call], n: int) -> dict[str, list[float]]:
    """Return the milliseconds of each call in each turn. Each call runs twice per turn, and the second run counts."""
    wait = torch.cuda.synchronize if DEVICE.type == "cuda" else lambda: None
    seconds = collect(take_turns(calls, n, warmup=WARMUP_TURNS, untimed=1, wait=wait))
    return {name: [1000 * value for value in values] for name, values in seconds.items()}


def ratio(above: list[float], below: list[float]) -> dict[str, Any]:
    """Return the median and the quartiles of the ratios of two times in the same turn."""
    low, median, high = statistics.quantiles(ratios(above, below), n=4)
    return {"median": round(median, 3), "quartiles": [round(low, 3), round(high, 3)]}


def medians(milliseconds: Mapping[str, list[float]]) -> dict[str, float]:
    return {name: round(statistics.median(values), 2) for name, values in milliseconds.items()}


def check_equal(one: Tensor, other: Tensor, tolerance: float) -> None:
    """Exit if the logits differ, because then the times are not comparable."""
    difference = float((one.float() - other.float()).norm() / other.float().norm())
    if difference > tolerance:
        raise SystemExit(f"the logits of gptzoo and transformers differ by {difference:.2g}")


def decode_steps(weights: WeightFormat) -> dict[str, Any]:
    """Measure a decode step with one weight format."""
    from gptzoo.sampling.inference_weights import prepare_for_inference

    theirs, plain = build_models()
    prepared = {batch: prepare_for_inference(copy.deepcopy(plain), weights, one_row=batch == 1) for batch in TURNS}
    if weights != "fp32":
        theirs, plain = theirs.bfloat16(), plain.bfloat16()
    results = {}
    n_bytes = sum(p.numel() * p.element_size() for p in theirs.parameters())
    for batch, n in TURNS.items():
        ours = prepared[batch]
        compiled = with_compiled_steps(ours)
        calls = {
            "gptzoo": our_step(ours, batch, NEAR),
            "compiled": our_step(compiled, batch, NEAR),
            "unprepared": our_step(plain, batch, NEAR),
            "transformers": their_step(theirs, batch, NEAR),
            "bare, laid out": products_only(ours, batch),
            "bare, F.linear": products_only(plain, batch),
        }
        for name in ("gptzoo", "compiled"):
            expected = calls["transformers"] if name == "gptzoo" else their_step(theirs, batch, NEAR)
            check_equal(calls[name](), expected(), {"fp32": 1e-4, "bf16": 0.05, "int8": 0.08}[weights])
        milliseconds = time_in_turns(calls, n)
        fastest = min(("bare, laid out", "bare, F.linear"), key=lambda name: statistics.median(milliseconds[name]))
        results[f"batch {batch}"] = {
            "milliseconds": medians(milliseconds),
            "gptzoo / bare": ratio(milliseconds["gptzoo"], milliseconds[fastest]),
            "compiled / bare": ratio(milliseconds["compiled"], milliseconds[fastest]),
            "compiled / bare, F.linear": ratio(milliseconds["compiled"], milliseconds["bare, F.linear"]),
            "transformers / compiled": ratio(milliseconds["transformers"], milliseconds["compiled"]),
            "gptzoo / bare, F.linear": ratio(milliseconds["gptzoo"], milliseconds["bare, F.linear"]),
            "transformers / gptzoo": ratio(milliseconds["transformers"], milliseconds["gptzoo"]),
            "unprepared / gptzoo": ratio(milliseconds["unprepared"], milliseconds["gptzoo"]),
            "compiled, GB of weights a second": round(n_bytes / statistics.median(milliseconds["compiled"]) / 1e6, 1),
        }
    return results


def first_token() -> dict[str, Any]:
    """Measure the prefill of a prompt."""
    from gptzoo.sampling.inference_weights import prepare_for_inference

    theirs, ours = build_models()
    prepare_for_inference(ours, one_row=True)
    prompt = random_tokens(1, PROMPT_LENGTH)
    calls: dict[str, Call] = {
        "gptzoo": lambda: ours.prefill(prompt.tolist(), 64).logits,
        "transformers": lambda: theirs(prompt, use_cache=True, logits_to_keep=1).logits[:, -1],
    }
    check_equal(calls["gptzoo"](), calls["transformers"](), 1e-4)
    milliseconds = time_in_turns(calls, 16)
    return {
        "milliseconds": medians(milliseconds),
        "transformers / gptzoo": ratio(milliseconds["transformers"], milliseconds["gptzoo"]),
    }


def far() -> dict[str, Any]:
    """Measure how the time of a decode step depends on the number of cached tokens."""
    from gptzoo.sampling.inference_weights import prepare_for_inference

    theirs, ours = build_models()
    prepare_for_inference(ours, one_row=True)
    calls = {
        f"{name}, {length}": step(model, 1, length)
        for name, model, step in (
            ("gptzoo", ours, our_step),
            ("compiled", with_compiled_steps(ours), our_step),
            ("transformers", theirs, their_step),
        )
        for length in (10, FAR)
    }
    calls |= {f"attention, {length}": attention_only(ours, length + 15) for length in (10, FAR)}
    milliseconds = time_in_turns(calls, 15 - WARMUP_TURNS)
    return {
        "milliseconds": medians(milliseconds),
        **{
            f"{name}, far / near": ratio(milliseconds[f"{name}, {FAR}"], milliseconds[f"{name}, 10"])
            for name in ("gptzoo", "compiled", "transformers")
        },
        **{
            f"{name}, far / near, apart from attention": ratio(
                *(
                    [a - b for a, b in zip(milliseconds[f"{name}, {n}"], milliseconds[f"attention, {n}"], strict=True)]
                    for n in (FAR, 10)
                )
            )
            for name in ("gptzoo", "compiled")
        },
    }


PARTS: dict[str, Callable[[], dict[str, Any]]] = {
    **{weights: lambda weights=weights: decode_steps(weights) for weights in ("fp32", "bf16", "int8")},
    "first_token": first_token,
    "far": far,
}


def main() -> None:
    import transformers

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", choices=PARTS, required=True)
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--out", type=Path, help="result file (default: decode-DEVICE.json in the results folder)")
    parser.add_argument("--one-line", action="store_true", help="print the result in one line, and write no file")
    parser.add_argument("--tiny", action="store_true", help="use a tiny model, to try the benchmark")
    arguments = parser.parse_args()
    global DEVICE
    DEVICE = torch.device(arguments.device)
    if arguments.tiny:
        SIZES.update(TINY)
    out = arguments.out or RESULTS / f"decode-{DEVICE.type}.json"
    torch.set_num_threads(N_THREADS)
    with torch.inference_mode():
        results = PARTS[arguments.part]()
    setting = {
        "model": "GPT-2, {n_layer} x {n_embd}, {n_head} heads, {vocab_size} tokens".format(**SIZES),
        "machine": torch.cuda.get_device_name(DEVICE)
        if DEVICE.type == "cuda"
        else f"{platform.machine()}, {torch.backends.cpu.get_cpu_capability()}",
        "threads": N_THREADS,
        "torch": torch.__version__,
        "transformers": transformers.__version__,
    }
    if arguments.one_line:
        print(json.dumps({**setting, **results}))
        return
    previous = json.loads(out.read_text()) if out.is_file() else {}
    parts = {**previous.get("parts", {}), arguments.part: {**setting, **results}}
    out.write_text(json.dumps({"parts": parts}, indent=2) + "\n")
    print(json.dumps(parts[arguments.part], indent=2))


if __name__ == "__main__":
    main()
