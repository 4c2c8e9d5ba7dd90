"""The JSON Schema of ablation specs, and the seeds that they accept."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from gptzoo.errors import SpecError
from gptzoo.spec.files import load_ablation_spec
from gptzoo.spec.schema import ablation_schema

FOLDER = Path(__file__).parents[2] / "configs" / "ablations"


def test_the_schema_accepts_every_example_and_refuses_misspelt_fields() -> None:
    validator = jsonschema.Draft202012Validator(ablation_schema())
    for file in sorted(FOLDER.glob("*.json")):
        validator.validate(json.loads(file.read_text()))
    spec = json.loads((FOLDER / "dropout.json").read_text())
    for wrong in ({**spec, "sedes": 3}, {**spec, "mode": "gird"}, {**spec, "base": {**spec["base"], "stepz": 1}}):
        with pytest.raises(jsonschema.ValidationError):
            validator.validate(wrong)


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"seeds": [4, 5, 4]}, r"\$\.seeds: a seed appears twice"),
        ({"tune": {"seeds": [7, 7]}}, r"\$\.tune\.seeds: a seed appears twice"),
        ({"halving": {"seeds": [7, 7]}}, r"\$\.halving\.seeds: a seed appears twice"),
        ({"tune": {"seeds": []}}, r"\$\.tune\.seeds: .*at least 1 item"),
        ({"seeds": 10**9}, r"\$\.seeds: should be at most 10000, got 1000000000"),
    ],
)
def test_seeds_are_different_and_not_too_many(fields: dict[str, Any], reason: str) -> None:
    spec = json.loads((FOLDER / "dropout.json").read_text())
    with pytest.raises(SpecError, match=reason):
        load_ablation_spec({**spec, **fields})
