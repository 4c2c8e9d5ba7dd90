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


def error(text: str) -> str:
    with pytest.raises(SpecError) as caught:
        parse_json(text, "tiny.json")
    return str(caught.value)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('{"dropout": NaN}', "$.dropout: NaN is not valid JSON"),
        ('{"dropout": Infinity}', "$.dropout: Infinity is not valid JSON"),
        ('{"attention": {"window": -Infinity}}', "$.attention.window: -Infinity is not valid JSON"),
        ('{"bias": true, "bias": false}', "$.bias: the key 'bias' appears twice in one object"),
        ('{"norm": {"type": "a", "type": "a"}}', "$.norm.type: the key 'type' appears twice in one object"),
        ("{} {}", "line 1 column 4: Extra data"),
        ("{'bias': true}", "line 1 column 2: Expecting property name enclosed in double quotes"),
        ('{\n  "bias": tru\n}', "line 2 column 11: Expecting value"),
        (" \n", "$: is empty; expected a JSON value"),
        ('{"a": [1, 2],\n}', "line 1 column 13: trailing comma before the closing bracket"),
        ("[" * 100_000, "$: is nested too deeply"),
        ('{"a":' * 100_000, "$: is nested too deeply"),
        ("1" + "0" * 5000, "$: contains an integer with thousands of digits"),
        ("\ufeff{}", "$: starts with a byte order mark. Save it as UTF-8 without one."),
    ],
    ids=lambda text: text[:30],
)
def test_invalid_json_is_an_error_at_its_place(text: str, reason: str) -> None:
    assert error(text) == f"tiny.json: {reason}"


@pytest.mark.parametrize("text", ["[1, 2,]", '{"a": 1,}', "// no\n{}", "{a: 1}", "0x10", "01", "+1", ".5", "'a'"])
def test_extensions_of_json_are_errors(text: str) -> None:
    assert error(text).startswith("tiny.json: line 1 column ")


@pytest.mark.parametrize(
    "text", ['{"\\ud800": 1, "\\ud800": 2}', '{"\\ud800": NaN}', '{"\\ud800": [\n{"a": 1, "a": 2}]}']
)
def test_errors_of_keys_that_utf8_cannot_represent_can_be_printed(text: str) -> None:
    with pytest.raises(SpecError) as error:
        parse_json(text, "spec.json")
    assert "$.\\ud800" in str(error.value).encode().decode()


def test_two_objects_may_have_the_same_key() -> None:
    assert parse_json('[{"a": 1}, {"a": 2}, {"b": {"a": 3}}]', "x") == [{"a": 1}, {"a": 2}, {"b": {"a": 3}}]


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


@given(json_values)
def test_dumped_json_reads_back(value: Any) -> None:
    assert parse_json(json.dumps(value), "x") == value


@given(st.text(max_size=30) | st.text(alphabet='{}[]",:0e1.-Na \\u', max_size=30))
def test_any_text_raises_nothing_but_spec_errors(text: str) -> None:
    try:
        parse_json(text, "text")
    except SpecError as caught:
        (problem,) = caught.problems
        assert problem.source == "text"


def test_a_number_too_large_for_a_float_is_infinite() -> None:
    assert parse_json("1e999", "x") == math.inf
