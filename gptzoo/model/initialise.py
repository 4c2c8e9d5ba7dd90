"""Initial values: each parameter from a generator of its own, seeded by (seed, its name).

So they depend neither on the order of construction nor on what else is in the model: two variants with one seed share
every initial value whose name, shape and scale they share.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from gptzoo.components.part import Part
from gptzoo.model.architecture import Architecture
from gptzoo.utils.seeds import derive


def initialise(model: Architecture, seed: int) -> None:
    """Fill every parameter and buffer in place. Raises RuntimeError naming what nobody filled.

    Weights are normal with the architecture's `init_std` (GPT-2: 0.02), those of layers that write the residual stream
    smaller by the norm scheme's `residual_gain`, biases zero; parts fill what they own themselves.
    """
    std = getattr(model.config, "init_std", 0.02)
    norm = model.spec.norm
    residual_std = std * norm.component.residual_gain(norm, model.spec.dims)
    tensors = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    with torch.no_grad():
        for tensor in tensors.values():
            _poison(tensor)
        for path, module in model.named_modules():
            prefix = f"{path}." if path else ""
            if isinstance(module, Part):
                module.initialise(lambda name, prefix=prefix: _generator(seed, prefix + name))  # type: ignore[misc]
            elif isinstance(module, nn.Linear | nn.Embedding):
                writes_residual = getattr(module, "writes_residual", False)
                nn.init.normal_(
                    module.weight,
                    std=residual_std if writes_residual else std,
                    generator=_generator(seed, prefix + "weight"),
                )
                if getattr(module, "bias", None) is not None:
                    nn.init.zeros_(module.bias)  # type: ignore[arg-type]
            elif callable(reset := getattr(module, "reset_parameters", None)):
                with torch.random.fork_rng(devices=[]):  # torch's own layers draw from the global generator
                    torch.default_generator.manual_seed(derive(seed, path))  # torch.manual_seed would reseed CUDA too
                    reset()
    if untouched := [name for name, tensor in tensors.items() if _is_poisoned(tensor)]:
        raise RuntimeError(
            f"nobody initialised {', '.join(untouched)}; a part fills its own parameters and buffers in initialise(rng)"
        )


def plain_tensor_attributes(model: nn.Module) -> list[str]:
    """Tensors that modules hold as plain attributes: they would not move, load or save with the model."""
    return [
        f"{path}.{name}".lstrip(".")
        for path, module in model.named_modules()
        for name, value in vars(module).items()
        if name not in ("_parameters", "_buffers") and _holds_tensor(value)
    ]


def shared_parameters(model: nn.Module) -> list[str]:
    """All names of the parameters that have more than one; moving off the meta device would part them."""
    names: dict[int, list[str]] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        names.setdefault(id(parameter), []).append(name)
    return [name for several in names.values() if len(several) > 1 for name in several]


def _holds_tensor(value: Any) -> bool:
    if isinstance(value, list | tuple | dict):
        return any(map(_holds_tensor, value.values() if isinstance(value, dict) else value))
    return isinstance(value, Tensor)


def _generator(seed: int, name: str) -> torch.Generator:
    return torch.Generator().manual_seed(derive(seed, name))


def _poison(tensor: Tensor) -> None:
    if tensor.is_floating_point() or tensor.is_complex():
        tensor.fill_(float("nan"))
    elif tensor.dtype.is_signed:  # of unsigned numbers and truth values none is out of the ordinary
        tensor.fill_(torch.iinfo(tensor.dtype).min)


def _is_poisoned(tensor: Any) -> bool:
    if tensor.is_floating_point() or tensor.is_complex():
        return bool(tensor.isnan().any())
    return tensor.dtype.is_signed and bool((tensor == torch.iinfo(tensor.dtype).min).any())
