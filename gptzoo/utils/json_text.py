"""JSON text without NaN and infinite numbers, which JSON does not have."""

from __future__ import annotations

import json
import math
from typing import Any


def to_json(value: object, **options: Any) -> str:  # noqa: ANN401  the options of json.dumps
    """Return the JSON of a value, with null in place of NaN and infinite numbers."""
    try:
        return json.dumps(value, allow_nan=False, **options)
    except ValueError:
        return json.dumps(_with_null(value), allow_nan=False, **options)


def _with_null(value: object) -> object:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {name: _with_null(entry) for name, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_with_null(entry) for entry in value]
    return value
