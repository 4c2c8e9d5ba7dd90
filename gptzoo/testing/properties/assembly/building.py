"""How a part comes to be: on meta first, every value filled once, from the seed alone; and what a checkpoint keeps."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from gptzoo.model.build import assemble, build
from gptzoo.testing.compare import distance
from gptzoo.testing.properties.decoding.cached_decoding import decode
from gptzoo.testing.subject import PartSubject
from gptzoo.testing.verdict import Failed


def building(subject: PartSubject) -> None:
    """It builds on meta without values; then all is filled, no tensor is a plain attribute, nothing has two owners."""
    try:
        model = assemble(subject.spec())
        build(subject.spec())
    except RuntimeError as error:
        raise Failed(str(error)) from None
    for name, tensor in _tensors(model).items():
        if not tensor.is_meta:
            raise Failed(f"{name} is made on {tensor.device} by the constructor; fill it in initialise(rng)")
    owners: dict[int, str] = {}
    for path, module in model.named_modules(remove_duplicate=False):
        if (first := owners.setdefault(id(module), path)) != path:
            raise Failed(f"{first} and {path} are one module; build one for each")


def scalars(subject: PartSubject) -> None:
    """No parameter is 0-dimensional: FSDP cannot shard one; use shape (1,)."""
    for name, parameter in assemble(subject.spec()).named_parameters():
        if parameter.ndim == 0:
            raise Failed(f"{name} has no dimension; use shape (1,)")


def initial_values(subject: PartSubject) -> None:
    """Initial values depend on the seed and the path of the module, and on nothing else."""
    one, other = _built(subject, seed=1, global_seed=0), _built(subject, seed=2, global_seed=0)
    again = _tensors(_built(subject, seed=1, global_seed=1))
    for name, tensor in _tensors(one).items():
        if not torch.equal(tensor, again[name]):
            raise Failed(f'{name} differs between two builds with one seed; draw it from rng("its_name")')
    names = _tensors(one)
    for name, tensor in names.items():
        first, _, rest = name.partition(".0.")
        twin = names.get(f"{first}.1.{rest}")
        random = not torch.equal(tensor, _tensors(other)[name])
        if random and twin is not None and tensor.shape == twin.shape and torch.equal(tensor, twin):
            raise Failed(f'{name} is the same in layer 1; draw it from rng("its_name"), which knows the layer')


def state_dict(subject: PartSubject) -> None:
    """A state dict has the same keys at any time, and is all that another model needs to compute the same."""
    model = subject.model()
    keys = list(assemble(subject.spec()).state_dict())
    tokens = subject.tokens(2, 8)

    def compare(when: str) -> None:
        for key in sorted(set(keys) ^ set(model.state_dict())):
            raise Failed(f"the state dict {'has no' if key in keys else 'gains'} {key} {when}")

    compare("once it has values")
    for mode in (True, False):
        model.train(mode)(tokens, tokens)[1].backward()
        compare(f"after a forward in {'training' if mode else 'eval'} mode")
    if not model.required_inputs:
        decode(model, tokens, [3, 5])
        compare("after decoding")
    other = subject.model(seed=2).eval()
    other.load_state_dict(model.state_dict())
    with torch.no_grad():
        difference = distance(other(tokens)[0], model.eval()(tokens)[0]).max()
    if difference > 0:
        raise Failed(
            f"a model of another seed that loads the state dict computes something else, off by {difference:.2g}: "
            "a value that is not in it is not the same for all seeds"
        )


def _built(subject: PartSubject, *, seed: int, global_seed: int) -> Any:
    torch.manual_seed(global_seed)
    before = torch.get_rng_state()
    model = build(subject.spec(), seed=seed)
    if not torch.equal(before, torch.get_rng_state()):
        raise Failed('building draws from torch\'s global generator; draw from rng("its_name")')
    return model


def _tensors(model: nn.Module) -> dict[str, torch.Tensor]:
    return {**dict(model.named_parameters()), **dict(model.named_buffers())}
