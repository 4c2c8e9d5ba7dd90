"""The page docs/checking.md lists every property."""

from __future__ import annotations

import re
from pathlib import Path

from gptzoo.testing.properties.catalog import PROPERTIES, properties_of

PAGE = (Path(__file__).parents[3] / "docs" / "checking.md").read_text(encoding="utf-8")


def test_the_page_lists_every_property_and_no_other() -> None:
    model_parts, _, other_kinds = PAGE.partition("## Other kinds")
    of_model_parts = re.findall(r"^\| `(\w+)` \|", model_parts, re.MULTILINE)
    of_other_kinds = re.findall(r"^\| (?:`\w+` )?\| `(\w+)` \|", other_kinds, re.MULTILINE)
    assert of_model_parts == [prop.name for prop in PROPERTIES if "ffn" in prop.kinds or "attention" in prop.kinds]
    assert of_other_kinds == [prop.name for prop in PROPERTIES if not {"ffn", "attention"} & set(prop.kinds)]


def test_the_page_marks_slow_properties() -> None:
    slow = re.findall(r"^\| (?:\| |`\w+` \| )?`(\w+)` \| \(slow\)", PAGE, re.MULTILINE)
    assert slow == [prop.name for prop in PROPERTIES if prop.slow]


def test_every_promise_is_one_line() -> None:
    for prop in PROPERTIES:
        assert prop.check.__doc__.startswith("Check that ")
        assert prop.promise[0].isupper() or prop.promise.startswith("`")
        assert prop.promise.endswith(".")
        assert not re.search(r"\b(and|or) that |, that ", prop.promise)  # it is read without "Check that"


def test_a_kind_has_each_name_once() -> None:
    for kind in {kind for prop in PROPERTIES for kind in prop.kinds}:
        names = [prop.name for prop in properties_of(kind)]
        assert len(names) == len(set(names))
