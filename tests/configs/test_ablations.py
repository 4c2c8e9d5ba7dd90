"""The ablations that people start from: each plans as it says, and has nothing in it that is left out unforeseen."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import gptzoo
from gptzoo.ablation.planning.plan import Plan, make_plan

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
    "positions": 4,
    "third-party": 5,
}


def plan(name: str, folder: Path) -> Plan:
    return make_plan(gptzoo.load_ablation_spec(FOLDER / f"{name}.json"), folder)


def test_every_ablation_is_pinned_here() -> None:
    assert {file.stem for file in FOLDER.glob("*.json")} == set(VARIANTS)


@pytest.mark.parametrize("name", VARIANTS)
def test_an_ablation_plans_all_of_its_variants(name: str, tmp_path: Path, fresh_registry: Any) -> None:
    if name == "third-party":
        admit_alibi()
    found = plan(name, tmp_path)
    assert found.spec.name == name
    assert len(found.variants) == VARIANTS[name]
    assert (list(found.exclusions), list(found.notes)) == ([], [])
    known = 0 if found.tuning else 1 if found.selecting else VARIANTS[name]
    assert len(found.trials) == known * len(found.spec.seeds)
    assert found.paired


def admit_alibi() -> None:
    from support import admit

    admit(pytest.importorskip("gptzoo_alibi").Alibi)


def test_the_third_party_part_is_missed_by_name_where_its_package_is_not(tmp_path: Path, fresh_registry: Any) -> None:
    found = plan("third-party", tmp_path)
    assert len(found.variants) == 4
    assert "no positional named 'alibi'" in found.exclusions[0].reason


def test_matched_ffns_are_within_a_percent(tmp_path: Path) -> None:
    sizes = [variant.costs.n_parameters for variant in plan("ffn-matched", tmp_path).variants]
    assert max(sizes) / min(sizes) < 1.01
