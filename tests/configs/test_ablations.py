"""The example ablations: each plans the expected variants, without unexpected exclusions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import gptzoo
from gptzoo.ablation.planning.plan import make_plan
from gptzoo.ablation.planning.plan_types import Plan

FOLDER = Path(__file__).parents[2] / "configs" / "ablations"
VARIANTS = {
    "card": 24,
    "dropout": 4,
    "ffn-matched": 5,
    "halving": 72,
    "heads": 6,
    "layer-lr-decay": 8,
    "norm-depth-warmup": 12,
    "optimizer": 5,
    "optimizers": 20,
    "positions": 4,
    "third-party": 5,
}


def plan(name: str, folder: Path) -> Plan:
    return make_plan(gptzoo.load_ablation_spec(FOLDER / f"{name}.json"), folder)


def test_every_example_is_tested() -> None:
    assert {file.stem for file in FOLDER.glob("*.json")} == set(VARIANTS)


@pytest.mark.slow
@pytest.mark.parametrize("name", VARIANTS)
def test_an_example_plans_all_of_its_variants(name: str, tmp_path: Path, fresh_registry: Any) -> None:
    if name == "third-party":
        admit_alibi()
    if name == "optimizers":
        admit_optimizers()
    planned = plan(name, tmp_path)
    assert planned.spec.name == name
    assert len(planned.variants) == VARIANTS[name]
    assert (list(planned.exclusions), list(planned.notes), list(planned.warnings)) == ([], [], [])
    n_compared = 0 if planned.tuning else 1 if planned.selecting else VARIANTS[name]  # as far as it is known yet
    assert len(planned.trials) == n_compared * len(planned.spec.seeds)
    assert planned.paired


def admit_alibi() -> None:
    from support import admit

    admit(pytest.importorskip("gptzoo_alibi").Alibi)


def admit_optimizers() -> None:
    from support import admit

    admit(*pytest.importorskip("gptzoo_optimizers").gptzoo_components())


def test_without_its_package_a_third_party_component_is_an_error(tmp_path: Path, fresh_registry: Any) -> None:
    with pytest.raises(gptzoo.SpecError, match="'alibi' is in the package gptzoo-alibi"):
        plan("third-party", tmp_path)


def test_matched_feed_forward_networks_differ_by_less_than_a_percent(tmp_path: Path) -> None:
    sizes = [variant.costs.n_parameters for variant in plan("ffn-matched", tmp_path).variants]
    assert max(sizes) / min(sizes) < 1.01
