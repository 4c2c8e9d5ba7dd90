"""The JSON Schema of ablation specs."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest

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
