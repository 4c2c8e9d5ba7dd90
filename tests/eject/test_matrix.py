"""Every registered part, its main options, and pairs of them eject to a file that computes the same."""

from __future__ import annotations

import pytest
from eject_variants import BASE, KINDS, PARTS, VARIANTS, pairs, spec_of
from ejected_files import has_logits_of_its_model

import gptzoo
from gptzoo.eject.eject import eject_source
from gptzoo.eject.refusal import EjectError
from gptzoo.spec.files import load_model_spec

PAIRS = pairs(20, seed=7)
REFUSED = {"encoder_decoder"}
"""The architectures without a frame for one file. All other parts eject."""

pytestmark = pytest.mark.filterwarnings("ignore:attention 'flex':UserWarning")


def test_the_variants_hold_every_registered_part() -> None:
    assert set(PARTS) == {f"{kind}:{name}" for kind in KINDS for name in gptzoo.registered(kind)}
    assert set(PARTS) <= VARIANTS.keys()
    assert len(PAIRS) == 20


@pytest.mark.parametrize("name", [n for n in gptzoo.registered("architecture") if n != "decoder"])
def test_other_architectures_are_refused_by_name(name: str) -> None:
    assert name in REFUSED
    with pytest.raises(EjectError, match=name):
        eject_source(load_model_spec({**BASE, "architecture": name}))


@pytest.mark.slow
@pytest.mark.parametrize("variant", VARIANTS)
def test_a_variant_ejects(variant: str) -> None:
    assert has_logits_of_its_model(spec_of(VARIANTS[variant]))


@pytest.mark.slow
@pytest.mark.parametrize("pair", PAIRS)
def test_a_pair_ejects(pair: str) -> None:
    assert has_logits_of_its_model(PAIRS[pair])
