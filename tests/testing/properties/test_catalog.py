"""The page says which properties there are."""

from __future__ import annotations

import re
from pathlib import Path

from gptzoo.testing.properties.catalog import PROPERTIES, properties_of

PAGE = (Path(__file__).parents[2] / "docs" / "checking.md").read_text(encoding="utf-8")


def test_every_property_is_on_the_page_and_no_other() -> None:
    parts, _, others = PAGE.partition("## Other kinds")
    of_parts = re.findall(r"^\| `(\w+)` \|", parts, re.MULTILINE)
    of_others = re.findall(r"^\| (?:`\w+` )?\| `(\w+)` \|", others, re.MULTILINE)
    assert of_parts == [one.name for one in PROPERTIES if "ffn" in one.kinds or "attention" in one.kinds]
    assert of_others == [one.name for one in PROPERTIES if not {"ffn", "attention"} & set(one.kinds)]


def test_what_is_slow_says_so() -> None:
    slow = re.findall(r"^\| (?:\| |`\w+` \| )?`(\w+)` \| \(slow\)", PAGE, re.MULTILINE)
    assert slow == [one.name for one in PROPERTIES if one.slow]


def test_every_property_states_its_promise_on_one_line() -> None:
    for one in PROPERTIES:
        assert one.promise.endswith(".")


def test_a_kind_has_each_name_once() -> None:
    for kind in {kind for one in PROPERTIES for kind in one.kinds}:
        names = [one.name for one in properties_of(kind)]
        assert len(names) == len(set(names))
