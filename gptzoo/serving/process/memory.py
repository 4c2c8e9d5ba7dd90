"""The memory that a server needs, and a check that there is enough before any of it is asked for."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from gptzoo.errors import InputError
from gptzoo.model.accounting import state_bytes
from gptzoo.model.build import build_on_meta
from gptzoo.model.memory_need import model_bytes
from gptzoo.sampling.inference_weights import WeightFormat
from gptzoo.spec.files import load_model_spec
from gptzoo.training.hardware.device import choose_device
from gptzoo.utils.machine_memory import total_bytes
from gptzoo.utils.units import scaled


def check_memory(
    folders: Sequence[Path], *, n_slots: int, max_length: int | None, dtype: WeightFormat, device: str
) -> None:
    """Raise InputError if the weights and KV caches of all models together need more memory than the device has.

    Weights count with the size that they have while they are loaded.
    """
    weights = caches = 0
    for folder in folders:
        spec = load_model_spec(folder / "model.json")
        model = build_on_meta(spec)
        length = max_length or model.max_length or spec.context_length
        weights += model_bytes(model)
        caches += n_slots * sum(state_bytes(spec, [length], "fp32" if dtype == "fp32" else "bf16").values())
    chosen = choose_device(device)
    if weights + caches > (total := total_bytes(chosen)):
        raise InputError(
            f"the server needs about {scaled(weights + caches)}B of memory, {scaled(weights)}B for the weights of "
            f"{len(folders)} model{'' if len(folders) == 1 else 's'} and {scaled(caches)}B for their KV caches, and "
            f"{'this machine' if chosen.type == 'cpu' else chosen} has {scaled(total)}B. Use a smaller --rows or "
            "--max-length, or serve fewer runs"
        )
