"""gptzoo's conformance tests: of a sample of the optimizers, and of all of them with the tests marked slow."""

from __future__ import annotations

import random

import pytest
from gptzoo_optimizers.catalog import tables

from gptzoo.testing import check, properties_of

NAMES = sorted(name for table in tables() for name in table.signatures)
SAMPLE = random.Random(4).sample([name for name in NAMES if not name.startswith("heavyball")], 2)
QUICK = ["learning", "learning_rate", "parameters", "missing_gradients", "evaluation_weights"]


def failures(name: str, only: list[str]) -> list[str]:
    return [str(verdict) for verdict in check(f"optimizer:{name}", only=only) if verdict.outcome == "failed"]


@pytest.mark.parametrize("name", SAMPLE)
def test_an_optimizer_of_the_sample_keeps_its_promises(name: str) -> None:
    assert failures(name, QUICK) == []


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_every_optimizer_passes_the_check(name: str) -> None:
    assert failures(name, [prop.name for prop in properties_of("optimizer")]) == []
