"""Peak FLOP/s of GPUs, for the model FLOP/s utilisation (MFU) of a run."""

from __future__ import annotations

import re

import torch

# Dense TFLOP/s by precision, from NVIDIA's data sheets. Where a sheet gives sparse figures, half of those.
_TFLOPS = {
    "B200": {"bf16": 2250.0, "tf32": 1125.0, "fp32": 75.0},
    "H200": {"bf16": 989.5, "tf32": 494.7, "fp32": 67.0},
    "H100 PCIe": {"bf16": 756.0, "tf32": 378.0, "fp32": 51.0},
    "H100 NVL": {"bf16": 835.0, "tf32": 417.5, "fp32": 60.0},
    "H100": {"bf16": 989.5, "tf32": 494.7, "fp32": 67.0},
    "A100": {"bf16": 312.0, "tf32": 156.0, "fp32": 19.5},
    "L40S": {"bf16": 362.0, "tf32": 183.0, "fp32": 91.6},
    "L4": {"bf16": 121.0, "tf32": 60.0, "fp32": 30.3},
}


def peak_flops(device: torch.device, precision: str) -> float | None:
    """Return the peak FLOP/s of a device in this precision, or None if unknown, as for every CPU."""
    if device.type != "cuda":
        return None
    return peak_flops_of(torch.cuda.get_device_name(device), precision)


def peak_flops_of(gpu: str, precision: str) -> float | None:
    """Return the peak FLOP/s of a GPU by torch's name for it, or None if unknown."""
    for known, tflops in _TFLOPS.items():
        if re.search(rf"{known}(?!\w)", gpu):  # an L40 is not an L4; a GH200 has an H200
            return 1e12 * tflops["bf16" if precision == "fp16" else precision]
    return None
