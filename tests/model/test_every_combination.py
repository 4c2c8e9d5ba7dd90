"""Over all that is installed: what the rules allow works, and what they exclude is excluded by name.

With only the built-ins installed this is a small test; with the packages under plugins/ it is thousands of models.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from support import covering_specs, small, tokens_of, types_with_defaults, with_large_weights

import gptzoo
from gptzoo import registry

N_SHARDS = 16
pytestmark = pytest.mark.slow


@functools.cache
def installed() -> registry.Registry:
    """Use the built-in components and every installed plugin, whatever GPTZOO_PLUGINS says."""
    return registry.discover(selection="")


@functools.cache
def specs() -> dict[str, dict[str, Any]]:
    with registry.use(installed()):
        return covering_specs()


@pytest.fixture(autouse=True)
def _everything_installed() -> Iterator[None]:
    with registry.use(installed()):
        yield


@pytest.mark.parametrize("shard", range(N_SHARDS))
def test_every_valid_combination_builds_trains_decodes_and_round_trips(shard: int) -> None:
    """Each attention x positional x norm, and each pair of all other choices."""
    failed = []
    for name, spec in itertools.islice(specs().items(), shard, None, N_SHARDS):
        try:
            check(spec)
        except Exception as error:
            failed.append(f"{name}: {type(error).__name__}: {error}".replace("\n", " "))
    assert not failed, f"{len(failed)} of the combinations:\n" + "\n".join(failed)


def check(spec: dict[str, Any]) -> None:
    read = gptzoo.load_model_spec(spec)
    assert gptzoo.load_model_spec(read.resolved()) == read
    model = with_large_weights(gptzoo.build(read)).double()  # so that rounding hides nothing, and is taken for nothing

    tokens = tokens_of(model, batch_size=2, length=9)
    torch.manual_seed(0)
    _, loss = model.train()(tokens[:, :-1], tokens[:, 1:])
    loss.backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, f"no gradient reaches {name}"
        assert parameter.grad.isfinite().all(), f"the gradient of {name} is not finite"

    with torch.inference_mode():
        full, _ = model.eval()(tokens)
        states = model.new_states(2, 9)
        first, _ = model(tokens[:, :5], states=states, no_past=True)
        more, _ = model(tokens[:, 5:8], positions=torch.arange(5, 8)[None], states=states)
        last, _ = model(tokens[:, 8:], positions=torch.tensor([[8]]), states=states)
    torch.testing.assert_close(torch.cat([first, more, last], dim=1), full, rtol=1e-6, atol=1e-6)

    other = gptzoo.build(read, seed=2).double()
    other.load_state_dict(model.state_dict())
    with torch.inference_mode():
        assert torch.equal(other.eval()(tokens)[0], full), "the weights alone do not make the same model"


def test_every_invalid_combination_is_an_error_that_names_both_components() -> None:
    kinds = ("attention", "positional", "norm")
    allowed, excluded = 0, 0
    for attention, positional, norm in itertools.product(*map(types_with_defaults, kinds)):
        try:
            gptzoo.load_model_spec(small(attention=attention, positional=positional, norm=norm))
            allowed += 1
        except gptzoo.SpecError as error:
            excluded += 1
            (problem,) = error.problems
            assert repr(attention) in problem.reason, problem
            assert repr(positional) in problem.reason, problem
    every = {kind: len(types_with_defaults(kind)) for kind in kinds}
    print(f"{every}: {allowed} allowed, {excluded} excluded; {len(specs())} models with all pairs of other choices")
    assert allowed + excluded == every["attention"] * every["positional"] * every["norm"]
    assert len(specs()) >= allowed


@pytest.mark.parametrize("kind", ["attention", "positional", "norm", "norm_layer", "ffn", "activation"])
def test_every_component_of_a_block_is_tested(kind: str) -> None:
    """Guard against components whose defaults do not fit the small model and that would silently go untested."""
    used = {part.config.type for spec in specs().values() for part in parts(spec) if part.config.component.kind == kind}
    assert set(types_with_defaults(kind)) <= used


def parts(spec: dict[str, Any]) -> Any:
    from gptzoo.spec.components_in_spec import components_in

    return components_in(gptzoo.load_model_spec(spec))
