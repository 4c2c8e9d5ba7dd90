"""Over all that is installed: in the engine, a text does not depend on what is written beside it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from support import loud, plain_types, small

import gptzoo
from gptzoo import registry
from gptzoo.testing.engine import written_alike

INSTALLED = registry.discover(selection="")  # whatever GPTZOO_PLUGINS says


def names(kind: str) -> list[str]:
    with registry.use(INSTALLED):
        return plain_types(kind)


@pytest.fixture(autouse=True)
def _everything_installed() -> Iterator[None]:
    with registry.use(INSTALLED):
        yield


@pytest.mark.slow
@pytest.mark.parametrize("attention", names("attention"))
def test_batched_is_alone_and_streamed_is_in_one_forward(attention: str) -> None:
    """With every positional that the rules allow, each drafted for by a model of the built-in attention."""
    draft = loud(gptzoo.build(small(n_layers=1, positional="rope"), seed=2)).eval().double()
    allowed = 0
    for positional in names("positional"):
        try:
            model = loud(gptzoo.build(small(attention=attention, positional=positional), seed=1)).eval().double()
        except gptzoo.SpecError:
            continue
        written_alike(model, draft)
        allowed += 1
    assert allowed
