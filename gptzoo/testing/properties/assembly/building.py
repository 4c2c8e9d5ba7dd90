"""Building: construction on the meta device, initial values from the seed alone, and a complete state dict."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from gptzoo.components.multi_head_attention import MultiHeadAttention
from gptzoo.errors import PluginError
from gptzoo.model.architecture import Architecture
from gptzoo.model.build import build, build_on_meta
from gptzoo.model.initialise import fill_in_initialise
from gptzoo.testing.compare import relative_difference
from gptzoo.testing.component_under_test import ModelPartUnderTest
from gptzoo.testing.properties.decoding.cached_decoding import decode
from gptzoo.testing.verdict import Failed


def check_building(subject: ModelPartUnderTest) -> None:
    """Check that it builds on the meta device, initialises every tensor, and gives each module one owner."""
    try:
        model = build_on_meta(subject.spec())
        build(subject.spec())
    except (PluginError, RuntimeError) as error:
        raise Failed(str(error)) from None
    for name, tensor in _tensors(model).items():
        if not tensor.is_meta:
            raise Failed(f"the constructor computes {name} on {tensor.device}. {fill_in_initialise(model, name)}")
    owners: dict[int, str] = {}
    for path, module in model.named_modules(remove_duplicate=False):
        if (first := owners.setdefault(id(module), path)) != path:
            raise Failed(f"{first} and {path} are one module; build one for each place")
    _check_attend(subject)


def _check_attend(subject: ModelPartUnderTest) -> None:
    """Check that `attend` returns a tuple. A tensor with two rows would be unpacked as one, and fail elsewhere."""
    model = subject.model()
    attentions = [module for _, module in subject.instances(model) if isinstance(module, MultiHeadAttention)]
    for attention in attentions:
        attention.attend = partial(_attend, attention.attend)  # type: ignore[method-assign]
    if attentions:
        model(subject.tokens(2, 5))


def _attend(attend: Callable[..., object], *args: object) -> tuple[Tensor, Tensor | None]:
    match attend(*args):
        case (Tensor() as y, (Tensor() | None) as weights):
            return y, weights
        case returned:
            what = "a tensor" if isinstance(returned, Tensor) else f"a {type(returned).__name__}"
            raise Failed(
                f"attend() returns {what}; expected a tuple of the outputs (B, H, T, D) and the attention weights, or "
                "None in place of the weights. Write: return y, None"
            )


def check_scalars(subject: ModelPartUnderTest) -> None:
    """Check that no parameter is 0-dimensional, because FSDP cannot shard such a parameter."""
    for name, parameter in build_on_meta(subject.spec()).named_parameters():
        if parameter.ndim == 0:
            raise Failed(f"{name} is 0-dimensional; use shape (1,)")


def check_initial_values(subject: ModelPartUnderTest) -> None:
    """Check that initial values depend only on the seed and on the path of the module."""
    model, other_model = _build(subject, seed=1, global_seed=0), _build(subject, seed=2, global_seed=0)
    rebuilt = _tensors(_build(subject, seed=1, global_seed=1))
    tensors, other_tensors = _tensors(model), _tensors(other_model)
    for name, tensor in tensors.items():
        if not torch.equal(tensor, rebuilt[name]):
            raise Failed(f'{name} differs between two builds with one seed; draw it from rng("its_name")')
    for name, tensor in tensors.items():
        first, _, rest = name.partition(".0.")
        next_layer = tensors.get(f"{first}.1.{rest}")
        if next_layer is None or next_layer.shape != tensor.shape:
            continue
        is_random = not torch.equal(tensor, other_tensors[name])
        if is_random and torch.equal(tensor, next_layer):
            raise Failed(f'{name} is the same in layer 1; draw it from rng("its_name"), which depends on the layer')


def check_state_dict(subject: ModelPartUnderTest) -> None:
    """Check that the state dict always has the same keys, and a model that loads it computes the same."""
    model = subject.model()
    keys = list(build_on_meta(subject.spec()).state_dict())
    tokens = subject.tokens(2, 8)

    def compare_keys(when: str) -> None:
        for key in sorted(set(keys) ^ set(model.state_dict())):
            raise Failed(f"the state dict {'has no' if key in keys else 'gains'} {key} {when}")

    compare_keys("when it has values")
    for mode in (True, False):
        model.train(mode)(tokens, tokens)[1].backward()
        compare_keys(f"after a forward pass in {'training' if mode else 'eval'} mode")
    if not model.required_inputs:
        decode(model, tokens, [3, 5])
        compare_keys("after decoding")
    other_model = subject.model(seed=2).eval()
    other_model.load_state_dict(model.state_dict())
    with torch.no_grad():
        difference = relative_difference(other_model(tokens)[0], model.eval()(tokens)[0]).max()
    if difference > 0:
        raise Failed(
            f"after loading the state dict, a model of another seed has logits that differ by {difference:.2g}: a "
            "value that depends on the seed is not in the state dict"
        )


def _build(subject: ModelPartUnderTest, *, seed: int, global_seed: int) -> Architecture:
    torch.manual_seed(global_seed)
    before = torch.get_rng_state()
    model = build(subject.spec(), seed=seed)
    if not torch.equal(before, torch.get_rng_state()):
        raise Failed('building draws from torch\'s global generator; draw from rng("its_name") instead')
    return model


def _tensors(model: nn.Module) -> dict[str, torch.Tensor]:
    return {**dict(model.named_parameters()), **dict(model.named_buffers())}
