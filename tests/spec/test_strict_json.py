"""Strict JSON."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gptzoo.errors import SpecError
from gptzoo.spec.strict_json import parse_json


def told(text: str) -> str:
    with pytest.raises(SpecError) as caught:
        parse_json(text, "tiny.json")
    return str(caught.value)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('{"dropout": NaN}', "$: NaN is not JSON"),
        ('{"dropout": Infinity}', "$: Infinity is not JSON"),
        ('{"attention": {"window": -Infinity}}', "$: -Infinity is not JSON"),
        ('{"bias": true, "bias": false}', "$: the key 'bias' appears twice in one object"),
        ('{"norm": {"type": "a", "type": "a"}}', "$: the key 'type' appears twice in one object"),
        ("{} {}", "line 1 column 4: Extra data"),
        ("{'bias': true}", "line 1 column 2: Expecting property name enclosed in double quotes"),
        ('{\n  "bias": tru\n}', "line 2 column 11: Expecting value"),
        (" \n", "$: is empty; a JSON value is wanted"),
        ('{"a": [1, 2],\n}', "line 1 column 13: a comma before the closing bracket; JSON has none there"),
        ("[" * 100_000, "$: nested too deeply"),
        ('{"a":' * 100_000, "$: nested too deeply"),
        ("1" + "0" * 5000, "$: holds a number with thousands of digits"),
        ("\ufeff{}", "$: begins with a byte order mark; save it as UTF-8 without one"),
    ],
    ids=lambda text: text[:30],
)
def test_what_is_not_strict_json_is_told(text: str, reason: str) -> None:
    assert told(text) == f"tiny.json: {reason}"


@pytest.mark.parametrize("text", ["[1, 2,]", '{"a": 1,}', "// no\n{}", "{a: 1}", "0x10", "01", "+1", ".5", "'a'"])
def test_what_other_dialects_allow_is_refused(text: str) -> None:
    assert told(text).startswith("tiny.json: line 1 column ")


def test_the_same_key_in_two_objects_is_fine() -> None:
    assert parse_json('[{"a": 1}, {"a": 2}, {"b": {"a": 3}}]', "x") == [{"a": 1}, {"a": 2}, {"b": {"a": 3}}]


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


@given(json_values)
def test_what_json_writes_is_read(value: Any) -> None:
    assert parse_json(json.dumps(value), "x") == value


@given(st.text(max_size=30) | st.text(alphabet='{}[]",:0e1.-Na \\u', max_size=30))
def test_whatever_text_comes_only_a_spec_error_goes(text: str) -> None:
    try:
        parse_json(text, "text")
    except SpecError as error:
        (problem,) = error.problems
        assert problem.source == "text"


def test_a_number_beyond_floats_is_left_to_the_spec_to_refuse() -> None:
    assert parse_json("1e999", "x") == math.inf
