"""Width transfer: under parametrisation `mup`, training changes a wide model by as much as a narrow one."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from gptzoo.errors import InputError, SpecError
from gptzoo.model.architecture import Architecture
from gptzoo.model.build import build
from gptzoo.spec.model import ModelSpec
from gptzoo.testing.component_under_test import ModelPartUnderTest
from gptzoo.testing.tiny_model import supply_required_inputs
from gptzoo.testing.verdict import Failed, Skipped
from gptzoo.training.named_parameters import NamedParameters
from gptzoo.training.optim.optimizers import AdamW

_WIDTH = 32
_GROWTH = 4
_N_HEADS = 4
_SEEDS = (1, 2)
_N_STEPS = 4
_OPTIMIZER = AdamW.Config(type="adamw", lr=0.01)
_MAX_EXPONENT = 0.5
"""Changes under muP are independent of the width, with an exponent of 0. An error of one factor of the width in the
square root, which is the smallest one possible, is 0.5; without muP, exponents are 0.8 to 2.3."""
_MIN_CHANGE = 1e-6


def check_width_transfer(subject: ModelPartUnderTest) -> str | None:
    """Check that under parametrisation `mup`, steps of training change no activation by more in a wide model."""
    refusals = []
    for way, n_heads in (("wider heads", _N_HEADS), ("more heads", _N_HEADS * _GROWTH)):
        try:
            narrow, wide = (_spec(subject, *sizes) for sizes in ((_WIDTH, _N_HEADS), (_WIDTH * _GROWTH, n_heads)))
            changes = _changes(subject, narrow), _changes(subject, wide)
        except (SpecError, InputError) as error:
            refusals.append(f"with {way}: {str(error).strip()}")
            continue
        _compare(*changes, way=way)
    if len(refusals) == 2:
        raise Skipped(f"mup is not defined for it: {refusals[0]}")
    return f"not defined {refusals[0]}" if refusals else None


def _spec(subject: ModelPartUnderTest, width: int, n_heads: int) -> ModelSpec:
    """Return the spec of the tiny model at a width, with the narrow one as its base."""
    parametrisation = {"type": "mup", "base": {"d_model": _WIDTH, "n_heads": _N_HEADS}}
    fields: dict[str, Any] = {}
    if subject.kind == "attention" and not subject.supports("rotate"):
        fields["positional"] = {"type": "sinusoidal", "scale_tokens": False}
    return subject.spec(d_model=width, n_heads=n_heads, parametrisation=parametrisation, **fields)


def _compare(narrow: Mapping[str, float], wide: Mapping[str, float], *, way: str) -> None:
    """Raise Failed for the activation whose change grows most, if it grows too much."""
    exponents = {
        name: math.log(wide[name] / change) / math.log(_GROWTH)
        for name, change in narrow.items()
        if change > _MIN_CHANGE and wide.get(name, 0) > _MIN_CHANGE
    }
    name = max(exponents, key=lambda name: exponents[name])
    if exponents[name] > _MAX_EXPONENT:
        raise Failed(
            f"with {way}, {_N_STEPS} steps of AdamW change the output of {name} by {narrow[name]:.2g} at width "
            f"{_WIDTH}, and by {wide[name]:.2g} at width {_WIDTH * _GROWTH}: as width^{exponents[name]:.2f}. Declare "
            "the inputs of parameters in fans(), and change factors that depend on the width in Config.at_width"
        )
    if exponents["logits"] < -_MAX_EXPONENT:
        raise Failed(
            f"with {way}, {_N_STEPS} steps of AdamW change the logits by {narrow['logits']:.2g} at width {_WIDTH}, "
            f"and by {wide['logits']:.2g} at width {_WIDTH * _GROWTH}: as width^{exponents['logits']:.2f}, so a wide "
            "model learns more slowly"
        )


def _changes(subject: ModelPartUnderTest, spec: ModelSpec) -> dict[str, float]:
    """Return the root mean square of the change of each module's output in a few steps, by the module's path."""
    squares: dict[str, float] = {}
    for seed in _SEEDS:
        model = build(spec, seed=seed).train()
        supply_required_inputs(model)
        tokens = subject.tokens(8, spec.context_length + 1, seed=seed)
        optimizer = _OPTIMIZER.build().create(NamedParameters.of(model))
        before = _outputs(model, tokens[:, :-1])
        for _ in range(_N_STEPS):
            optimizer.zero_grad()
            model(tokens[:, :-1], tokens[:, 1:])[1].backward()
            optimizer.step()
        after = _outputs(model, tokens[:, :-1])
        for name, output in before.items():
            if name in after and after[name].shape == output.shape:  # an expert may receive other tokens
                change = after[name] - output
                squares[name] = squares.get(name, 0.0) + float(change.square().mean()) / len(_SEEDS)
    return {name: square**0.5 for name, square in squares.items()}


def _outputs(model: Architecture, tokens: Tensor) -> dict[str, Tensor]:
    """Return the output of each module that returns a floating-point tensor, once per forward pass, and the logits."""
    found: dict[str, list[Tensor]] = {}
    hooks = [module.register_forward_hook(_keep(found, name)) for name, module in model.named_modules() if name]
    with torch.no_grad():
        logits, _ = model(tokens)
    for hook in hooks:
        hook.remove()
    called_once = ((name, outputs[0]) for name, outputs in found.items() if len(outputs) == 1)
    return {**dict(called_once), "logits": logits}


def _keep(found: dict[str, list[Tensor]], name: str) -> Callable[[nn.Module, object, object], None]:
    def hook(module: nn.Module, args: object, output: object) -> None:
        if isinstance(output, Tensor) and output.is_floating_point():
            found.setdefault(name, []).append(output.detach())

    return hook
