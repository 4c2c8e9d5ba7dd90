"""Private memory of an import: `python benchmarks/import_memory.py [--layers N] [--kind safetensors|bin]`.

Makes a random Llama checkpoint in bfloat16 (by default about 1 GB), imports it, and prints the peak of private memory
above the level after the imports of packages. Memory-mapped files are not private memory.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import save_file

VOCAB_SIZE = 32000


def make_checkpoint(folder: Path, n_layers: int, width: int, kind: str) -> int:
    """Write a random checkpoint and return its size in bytes."""
    d_ff = 4 * width
    config = {
        "model_type": "llama",
        "hidden_size": width,
        "num_hidden_layers": n_layers,
        "num_attention_heads": width // 64,
        "intermediate_size": d_ff,
        "vocab_size": VOCAB_SIZE,
        "tie_word_embeddings": True,
        "dtype": "bfloat16",
    }
    shapes = {"model.embed_tokens.weight": (VOCAB_SIZE, width), "model.norm.weight": (width,)}
    for layer in range(n_layers):
        prefix = f"model.layers.{layer}"
        shapes |= {f"{prefix}.self_attn.{name}_proj.weight": (width, width) for name in "qkvo"}
        shapes |= {f"{prefix}.mlp.{name}_proj.weight": (d_ff, width) for name in ("gate", "up")}
        shapes[f"{prefix}.mlp.down_proj.weight"] = (width, d_ff)
        shapes |= {f"{prefix}.{name}_layernorm.weight": (width,) for name in ("input", "post_attention")}
    tensors = {name: torch.randn(shape).to(torch.bfloat16) for name, shape in shapes.items()}
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(config))
    if kind == "safetensors":
        save_file(tensors, folder / "model.safetensors")
    else:
        torch.save(tensors, folder / "pytorch_model.bin")
    return sum(tensor.nbytes for tensor in tensors.values())


def private_growth(action: Callable[[], object]) -> int:
    """Return the peak growth of this process's anonymous memory during an action, in bytes, from samples."""
    start = _anonymous_memory()
    peak, done = start, threading.Event()

    def sample() -> None:
        nonlocal peak
        while not done.wait(0.002):
            peak = max(peak, _anonymous_memory())

    thread = threading.Thread(target=sample)
    thread.start()
    try:
        action()
    finally:
        done.set()
        thread.join()
    return max(peak, _anonymous_memory()) - start


def _anonymous_memory() -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError("this system does not report RssAnon; use Linux")


_MEASURE = """
import json, sys
from pathlib import Path
import gptzoo.cli, safetensors, torch
from gptzoo.interop.hugging_face import import_folder
from import_memory import private_growth
print(private_growth(lambda: import_folder(Path(sys.argv[1]), Path(sys.argv[2]))))
"""


def measure(checkpoint: Path, out: Path) -> int:
    """Return the growth of private memory of an import in a process of its own, in bytes."""
    paths = [str(Path(__file__).parent), *sys.path]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "GPTZOO_PLUGINS": ""}
    command = [sys.executable, "-c", _MEASURE, str(checkpoint), str(out)]
    printed = subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout
    return int(printed.splitlines()[-1])


def main() -> None:
    """Make a checkpoint, import it and print the memory."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--layers", type=int, default=7)
    parser.add_argument("--width", type=int, default=2048)
    parser.add_argument("--kind", choices=["safetensors", "bin"], default="safetensors")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = Path(folder) / "checkpoint"
        size = make_checkpoint(checkpoint, options.layers, options.width, options.kind)
        growth = measure(checkpoint, Path(folder) / "out")
    print(f"checkpoint {size / 1e9:.3f} GB, private memory {growth / 1e9:.3f} GB ({growth / size:.2f} x)")


if __name__ == "__main__":
    main()
