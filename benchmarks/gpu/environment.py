"""Print as JSON what decoding and compiling need on this machine: `python benchmarks/gpu/environment.py DEVICE`."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import sys

import torch

from gptzoo.sampling.compile.decode_step import missing_for_cuda
from gptzoo.training.hardware.device import choose_device, choose_precision, describe_device
from gptzoo.training.hardware.peak_flops import peak_flops


def main() -> None:
    device = choose_device(sys.argv[1])
    packages = ("triton", "transformers", "pydantic", "numpy")
    x = torch.ones(64, 64, device=device)
    result = {
        "device": describe_device(device),
        "precision": choose_precision("auto", device),
        "peak_tflops": (peak_flops(device, "bf16") or 0) / 1e12 or None,
        "missing_for_compiled_decoding": missing_for_cuda(),
        "product_is_right": bool((x @ x == 64).all()),
        "packages": {
            name: importlib.metadata.version(name) if importlib.util.find_spec(name) else None for name in packages
        },
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
