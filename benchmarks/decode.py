"""What writing a token costs beside its matrix products, and beside `transformers`: ratios, as JSON.

    python benchmarks/decode.py --part fp32     # or bf16, int8, first_token, far; each goes into the same file

GPT-2 of 124M parameters with random weights, made by `transformers` and copied as `gptzoo import-hf` does; on two
threads of a CPU, or with `--device cuda`, which has not been run yet. Whatever is compared takes turns, so that what
else the machine does falls on all alike. In its turn each is called twice and the second call is timed, so that each
finds the caches as it leaves them itself. A ratio is the median over the turns of the two times of one turn, with its
quartiles.

"fp32", "bf16", "int8"  one step of batch 1 and of batch 16 with 24 to 63 tokens in a cache for 64, head included.
                        `bare` is the products of the step alone, with the same shapes and dtype, by `F.linear` or as
                        gptzoo lays weights out, whichever is faster; `transformers` its step with its own cache (int8:
                        in bf16); `unprepared` gptzoo's with weights as they are loaded; `compiled` that of
                        `--compile`, on CUDA with its graphs
"first_token"           a prompt of 512 tokens read, to the logits of the first new token; fp32
"far"                   a step at 970 to 999 tokens against one at 10 to 39; fp32. Attention's own reads are timed
                        beside, by themselves: "apart from attention" is of what is left without them
"""

from __future__ import annotations

import argparse
import copy
import itertools
import json
import platform
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

THREADS = 2
NEAR, PROMPT, FAR = 24, 512, 970  # tokens in the cache
FEW = 40  # steps that go on from them
TURNS = {16: 12, 1: 16}  # by batch; twice as many steps, and those that warm up and check, fit into FEW
WARM = 3  # turns
RESULTS = Path(__file__).parent / "results"
DEVICE = torch.device("cpu")

Call = Callable[[], Tensor]


def models() -> tuple[Any, Any]:
    """A GPT-2 of `transformers` and gptzoo's, with the same random weights."""
    from transformers import GPT2Config, GPT2LMHeadModel

    import gptzoo
    from gptzoo.interop.gpt2 import GPT2Importer
    from gptzoo.interop.settings import Settings

    torch.manual_seed(0)
    theirs = GPT2LMHeadModel(GPT2Config()).eval().to(DEVICE)
    importer = GPT2Importer(GPT2Importer.Config())
    spec = gptzoo.load_model_spec(importer.spec(Settings(theirs.config.to_dict())))
    ours, stored = gptzoo.build(spec).eval().to(DEVICE), theirs.transformer.state_dict()
    weights = {w.name: w.convert(*(stored[source] for source in w.source_names)) for w in importer.weights(spec)}
    ours.load_state_dict(weights)
    return theirs, ours


def tokens_of(batch: int, length: int) -> Tensor:
    return torch.randint(50257, (batch, length), generator=torch.Generator().manual_seed(length)).to(DEVICE)


def compiled_twin(model: Any) -> Any:
    """A model of the same weights, in the same memory, whose steps are compiled."""
    from gptzoo.sampling.compile.decode_step import compile_decoding

    twin = copy.copy(model)
    compile_decoding(twin)
    return twin


def our_step(model: Any, batch: int, length: int) -> Call:
    """A step that finds `length` tokens in the cache, and each time one more."""
    from gptzoo.sampling.compile.cuda_graphs import StepGraphs
    from gptzoo.sampling.compile.decode_step import is_compiled

    states = model.new_states(batch, length + FEW)  # as `generate` does
    model(tokens_of(batch, length), states=states, no_past=True, last_only=True)
    position, token = itertools.count(length), tokens_of(batch, 1)
    if DEVICE.type == "cuda" and is_compiled(model):
        step = StepGraphs(model)
        return lambda: step(token, torch.tensor([[next(position)]], device=DEVICE), states)[:, -1]
    return lambda: model(token, positions=torch.tensor([[next(position)]], device=DEVICE), states=states)[0][:, -1]


def their_step(model: Any, batch: int, length: int) -> Call:
    cache = model(tokens_of(batch, length), use_cache=True, logits_to_keep=1).past_key_values
    token = tokens_of(batch, 1)
    return lambda: model(token, past_key_values=cache, use_cache=True).logits[:, -1]


def reads(model: Any, length: int) -> Call:
    """What attention reads in a step that finds `length` tokens: its scores and sums alone, of one row."""
    states = model.new_states(1, length + FEW)
    seen = [tuple(s["attention"][name][:, :length].transpose(1, 2) for name in ("k", "v")) for s in states]
    query = torch.randn(1, 12, 1, 64, device=DEVICE)
    return lambda: [F.scaled_dot_product_attention(query, k, v) for k, v in seen][-1]


def bare(model: Any, batch: int) -> Call:
    """The products of a step, one after the other, each on numbers of its own shape."""
    layers = [
        m for block in model.blocks for m in (block.attention.qkv, block.attention.out, block.ffn.up, block.ffn.down)
    ]
    dtype, head = model.embed.weight.dtype, model.head
    narrow, wide = (torch.randn(batch, 1, width, dtype=dtype, device=DEVICE) for width in (768, 3072))

    def run() -> Tensor:
        for index, layer in enumerate(layers):
            layer(wide if index % 4 == 3 else narrow)
        return F.linear(narrow, model.embed.weight) if head.packed is None else head.packed(narrow)

    return run


def turns(calls: Mapping[str, Call], n: int) -> dict[str, list[float]]:
    """Milliseconds of each call in each turn; of the second of two, as what ran before leaves its weights in caches."""
    spent: dict[str, list[float]] = {name: [] for name in calls}
    for turn in range(WARM + n):
        for name, call in calls.items():
            call()
            if DEVICE.type == "cuda":
                torch.cuda.synchronize()
            started = time.perf_counter()
            call()
            if DEVICE.type == "cuda":
                torch.cuda.synchronize()
            if turn >= WARM:
                spent[name].append(1000 * (time.perf_counter() - started))
    return spent


def ratio(above: list[float], below: list[float]) -> dict[str, float]:
    low, median, high = statistics.quantiles([a / b for a, b in zip(above, below, strict=True)], n=4)
    return {"median": round(median, 3), "quartiles": [round(low, 3), round(high, 3)]}


def medians(spent: Mapping[str, list[float]]) -> dict[str, float]:
    return {name: round(statistics.median(own), 2) for name, own in spent.items()}


def check(one: Tensor, other: Tensor, tolerance: float) -> None:
    """Refuse to compare what does not compute the same."""
    apart = float((one.float() - other.float()).norm() / other.float().norm())
    if apart > tolerance:
        raise SystemExit(f"the logits of gptzoo and transformers are {apart:.2g} apart")


def steps(weights: Any) -> dict[str, Any]:
    from gptzoo.sampling.weights.prepare import prepare_for_inference

    theirs, plain = models()
    prepared = {batch: prepare_for_inference(copy.deepcopy(plain), weights, one_row=batch == 1) for batch in TURNS}
    if weights != "fp32":
        theirs, plain = theirs.bfloat16(), plain.bfloat16()
    found = {}
    n_bytes = sum(p.numel() * p.element_size() for p in theirs.parameters())
    for batch, n in TURNS.items():
        ours = prepared[batch]
        twin = compiled_twin(ours)
        calls = {
            "gptzoo": our_step(ours, batch, NEAR),
            "compiled": our_step(twin, batch, NEAR),
            "unprepared": our_step(plain, batch, NEAR),
            "transformers": their_step(theirs, batch, NEAR),
            "bare, laid out": bare(ours, batch),
            "bare, F.linear": bare(plain, batch),
        }
        for name in ("gptzoo", "compiled"):
            expected = calls["transformers"] if name == "gptzoo" else their_step(theirs, batch, NEAR)
            check(calls[name](), expected(), {"fp32": 1e-4, "bf16": 0.05, "int8": 0.08}[weights])
        spent = turns(calls, n)
        fastest = min(("bare, laid out", "bare, F.linear"), key=lambda name: statistics.median(spent[name]))
        found[f"batch {batch}"] = {
            "milliseconds": medians(spent),
            "gptzoo / bare": ratio(spent["gptzoo"], spent[fastest]),
            "compiled / bare": ratio(spent["compiled"], spent[fastest]),
            "compiled / bare, F.linear": ratio(spent["compiled"], spent["bare, F.linear"]),
            "transformers / compiled": ratio(spent["transformers"], spent["compiled"]),
            "gptzoo / bare, F.linear": ratio(spent["gptzoo"], spent["bare, F.linear"]),
            "transformers / gptzoo": ratio(spent["transformers"], spent["gptzoo"]),
            "unprepared / gptzoo": ratio(spent["unprepared"], spent["gptzoo"]),
            "compiled, GB of weights a second": round(n_bytes / statistics.median(spent["compiled"]) / 1e6, 1),
        }
    return found


def first_token() -> dict[str, Any]:
    from gptzoo.sampling.weights.prepare import prepare_for_inference

    theirs, ours = models()
    prepare_for_inference(ours, one_row=True)
    prompt = tokens_of(1, PROMPT)
    calls: dict[str, Call] = {
        "gptzoo": lambda: ours.prefill(prompt.tolist(), 64).logits,
        "transformers": lambda: theirs(prompt, use_cache=True, logits_to_keep=1).logits[:, -1],
    }
    check(calls["gptzoo"](), calls["transformers"](), 1e-4)
    spent = turns(calls, 16)
    return {
        "milliseconds": medians(spent),
        "transformers / gptzoo": ratio(spent["transformers"], spent["gptzoo"]),
    }


def far() -> dict[str, Any]:
    from gptzoo.sampling.weights.prepare import prepare_for_inference

    theirs, ours = models()
    prepare_for_inference(ours, one_row=True)
    calls = {
        f"{name}, {length}": step(model, 1, length)
        for name, model, step in (
            ("gptzoo", ours, our_step),
            ("compiled", compiled_twin(ours), our_step),
            ("transformers", theirs, their_step),
        )
        for length in (10, FAR)
    }
    calls |= {f"attention, {length}": reads(ours, length + 15) for length in (10, FAR)}
    spent = turns(calls, 15 - WARM)
    return {
        "milliseconds": medians(spent),
        **{
            f"{name}, far / near": ratio(spent[f"{name}, {FAR}"], spent[f"{name}, 10"])
            for name in ("gptzoo", "compiled", "transformers")
        },
        **{
            f"{name}, far / near, apart from attention": ratio(
                *(
                    [a - b for a, b in zip(spent[f"{name}, {n}"], spent[f"attention, {n}"], strict=True)]
                    for n in (FAR, 10)
                )
            )
            for name in ("gptzoo", "compiled")
        },
    }


PARTS: dict[str, Callable[[], dict[str, Any]]] = {
    **{weights: lambda weights=weights: steps(weights) for weights in ("fp32", "bf16", "int8")},
    "first_token": first_token,
    "far": far,
}


def main() -> None:
    import transformers

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", choices=PARTS, required=True)
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--out", type=Path, help="left out, decode-DEVICE.json among the results")
    arguments = parser.parse_args()
    global DEVICE
    DEVICE = torch.device(arguments.device)
    out = arguments.out or RESULTS / f"decode-{DEVICE.type}.json"
    torch.set_num_threads(THREADS)
    with torch.inference_mode():
        found = PARTS[arguments.part]()
    setting = {
        "model": "GPT-2, 12 x 768, 12 heads, 50257 tokens",
        "machine": torch.cuda.get_device_name(DEVICE)
        if DEVICE.type == "cuda"
        else f"{platform.machine()}, {torch.backends.cpu.get_cpu_capability()}",
        "threads": THREADS,
        "torch": torch.__version__,
        "transformers": transformers.__version__,
    }
    before = json.loads(out.read_text()) if out.is_file() else {}
    parts = {**before.get("parts", {}), arguments.part: {**setting, **found}}
    out.write_text(json.dumps({"parts": parts}, indent=2) + "\n")
    print(json.dumps(parts[arguments.part], indent=2))


if __name__ == "__main__":
    main()
