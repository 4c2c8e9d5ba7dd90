"""Initial values of parameters and buffers, each from its own generator, seeded by (seed, name).

So they depend neither on the order of construction nor on the rest of the model. Two variants with the same seed have
equal initial values wherever name, shape and scale are equal.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from gptzoo.components.part import Part
from gptzoo.errors import PluginError
from gptzoo.model.architecture import Architecture
from gptzoo.utils.seeds import derive_seed


def initialise(model: Architecture, seed: int) -> None:
    """Fill all parameters and buffers in place.

    Weights are normal with the architecture's `init_std` (GPT-2: 0.02), scaled by the norm scheme's `residual_gain` in
    layers that write the residual stream. Biases are zero. Parts fill the tensors that they own themselves. With a
    parametrisation, these are the values at the base width, and each parameter is multiplied by the factor of its own
    width. Raises PluginError with the names of tensors that nothing has filled, and the lines to write.
    """
    std = getattr(model.config, "init_std", 0.02)
    spec = model.spec if model.spec.parametrisation is None else model.spec.at_base_width()
    residual_std = std * spec.norm.component.residual_gain(spec.norm, spec.dims)
    tensors = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    with torch.no_grad():
        for tensor in tensors.values():
            _fill_with_sentinel(tensor)
        versions = {name: tensor._version for name, tensor in tensors.items() if not tensor.is_inference()}
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
    if unfilled := [name for name, tensor in tensors.items() if _is_unfilled(tensor, versions.get(name))]:
        raise PluginError(f"{', '.join(unfilled)}: not initialised. {fill_in_initialise(model, unfilled[0])}")


def fill_in_initialise(model: nn.Module, name: str) -> str:
    """Return the lines to write in the part that owns a parameter or buffer, so that it is initialised."""
    owner = next(path for path in _parents(name) if isinstance(model.get_submodule(path), Part))
    part, local = model.get_submodule(owner), name.removeprefix(f"{owner}.")
    module, _, attribute = local.rpartition(".")
    is_parameter = name in dict(model.named_parameters())
    tensor = dict(model.named_parameters())[name] if is_parameter else dict(model.named_buffers())[name]
    shape = ", ".join(map(str, tensor.shape))
    declared = (
        f"self.{attribute} = nn.Parameter(torch.empty({shape}))"
        if is_parameter
        else f'self.register_buffer("{attribute}", torch.empty({shape}, dtype={tensor.dtype}))'
    )
    filled = (
        f'nn.init.normal_(self.{local}, std=0.02, generator=rng("{local}"))'
        if is_parameter
        else f"self.{local}.copy_(...)  # the values"
    )
    inherits = any("initialise" in vars(base) for base in type(part).__mro__[1:] if base is not Part)
    calls_base = "\n        super().initialise(rng)" if inherits else ""
    constructor = type(part.get_submodule(module)).__name__
    return (
        f"The constructor makes no values, since it runs on the meta device. {type(part).__name__}.initialise fills "
        f"them:\n\n    {declared}  # in {constructor}.__init__\n\n"
        f"    def initialise(self, rng):{calls_base}\n        {filled}\n"
    )


def _parents(name: str) -> list[str]:
    """Return the paths of the modules that contain a tensor, from the innermost outwards."""
    parts = name.split(".")[:-1]
    return [".".join(parts[:n]) for n in range(len(parts), -1, -1)]


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
    elif tensor.dtype.is_signed:
        tensor.fill_(torch.iinfo(tensor.dtype).min)


def _is_unfilled(tensor: Tensor, version: int | None) -> bool:
    """Return True if a tensor has a sentinel. For a type without one, return True if nothing was written to it.

    version: torch's counter of writes to the tensor, from before the initialisation. None: torch has not counted.
    """
    if tensor.is_floating_point() or tensor.is_complex():
        return bool(tensor.isnan().any())
    if tensor.dtype.is_signed:
        return bool((tensor == torch.iinfo(tensor.dtype).min).any())
    return version is not None and tensor.numel() > 0 and tensor._version == version
