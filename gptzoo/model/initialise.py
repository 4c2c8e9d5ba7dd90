"""Initial values of parameters and buffers, each from its own generator, seeded by (seed, name).

So they depend neither on the order of construction nor on the rest of the model. Two variants with the same seed have
equal initial values wherever name, shape and scale are equal.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from gptzoo.components.part import Part
from gptzoo.model.architecture import Architecture
from gptzoo.utils.seeds import derive_seed


def initialise(model: Architecture, seed: int) -> None:
    """Fill all parameters and buffers in place.

    Weights are normal with the architecture's `init_std` (GPT-2: 0.02), scaled by the norm scheme's `residual_gain` in
    layers that write the residual stream. Biases are zero. Parts fill the tensors that they own themselves. With a
    parametrisation, these are the values at the base width, and each parameter is multiplied by the factor of its own
    width. Raises RuntimeError with the names of tensors that nothing has filled.
    """
    std = getattr(model.config, "init_std", 0.02)
    spec = model.spec if model.spec.parametrisation is None else model.spec.at_base_width()
    residual_std = std * spec.norm.component.residual_gain(spec.norm, spec.dims)
    tensors = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    with torch.no_grad():
        for tensor in tensors.values():
            _fill_with_sentinel(tensor)
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
                    torch.default_generator.manual_seed(derive_seed(seed, path))  # torch.manual_seed also seeds CUDA
                    reset()
        for name, scaling in model.width_scalings.items():
            if scaling.initial_factor != 1:
                tensors[name].mul_(scaling.initial_factor)
    if unfilled := [name for name, tensor in tensors.items() if _has_sentinel(tensor)]:
        raise RuntimeError(
            f"{', '.join(unfilled)}: not initialised. A part must fill its own parameters and buffers in "
            "initialise(rng)."
        )


def unregistered_tensors(model: nn.Module) -> list[str]:
    """Return the paths of tensors in plain attributes, which are not moved, loaded or saved with the model."""
    return [
        f"{path}.{name}".lstrip(".")
        for path, module in model.named_modules()
        for name, value in vars(module).items()
        if name not in ("_parameters", "_buffers") and _holds_tensor(value)
    ]


def shared_parameters(model: nn.Module) -> list[str]:
    """Return all names of parameters that have several; moving off the meta device would separate them."""
    names: dict[int, list[str]] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        names.setdefault(id(parameter), []).append(name)
    return [name for aliases in names.values() if len(aliases) > 1 for name in aliases]


def _holds_tensor(value: object) -> bool:
    if isinstance(value, list | tuple | dict):
        return any(map(_holds_tensor, value.values() if isinstance(value, dict) else value))
    return isinstance(value, Tensor)


def _generator(seed: int, name: str) -> torch.Generator:
    return torch.Generator().manual_seed(derive_seed(seed, name))


def _fill_with_sentinel(tensor: Tensor) -> None:
    """Fill a tensor with a value that no initialisation produces, to detect tensors that stay unfilled."""
    if tensor.is_floating_point() or tensor.is_complex():
        tensor.fill_(float("nan"))
    elif tensor.dtype.is_signed:  # unsigned and boolean tensors have no unusual value
        tensor.fill_(torch.iinfo(tensor.dtype).min)


def _has_sentinel(tensor: Tensor) -> bool:
    if tensor.is_floating_point() or tensor.is_complex():
        return bool(tensor.isnan().any())
    return tensor.dtype.is_signed and bool((tensor == torch.iinfo(tensor.dtype).min).any())
