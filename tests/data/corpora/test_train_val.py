"""The corpus `train_val`, which joins the training text of one corpus and the held-out text of another."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from gptzoo.reference import Reference
from gptzoo.testing.properties.catalog import properties_of
from gptzoo.testing.runner import check_property, find_component, put_under_test


@pytest.fixture
def options(tmp_path: Path) -> dict[str, object]:
    for name in ("a", "b"):
        for split in ("train", "val"):
            lines = [json.dumps({"text": f"{name} {split} {number}"}) for number in range(5)]
            (tmp_path / f"{name}.{split}.jsonl").write_text("\n".join(lines))
    sides = {"train": "a", "val": "b"}
    return {
        side: {
            "type": "jsonl",
            "path": str(tmp_path / f"{name}.train.jsonl"),
            "val_path": str(tmp_path / f"{name}.val.jsonl"),
        }
        for side, name in sides.items()
    }


def test_each_split_is_that_of_its_own_corpus(options: dict[str, object]) -> None:
    corpus = Reference("corpus").validate({"type": "train_val", **options}).build()
    assert list(corpus.documents("train")) == [f"a train {number}" for number in range(5)]
    assert list(corpus.documents("val")) == [f"b val {number}" for number in range(5)]


def test_it_has_the_properties_of_a_corpus(options: dict[str, object]) -> None:
    subject = put_under_test(find_component("corpus:train_val"), options)
    for property_ in properties_of("corpus"):
        expected = "skipped" if "file" in property_.name else "passed"  # it reads no files itself
        assert check_property(property_, subject).outcome == expected, property_.name
