"""The corpus `mixture`."""

from __future__ import annotations

import itertools
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import gptzoo
from gptzoo.data.corpora.corpus import Corpus
from gptzoo.data.prepare import prepare
from gptzoo.errors import DataError, SpecError
from gptzoo.reference import Reference
from gptzoo.testing.properties.catalog import properties_of
from gptzoo.testing.runner import check_property, find_component, put_under_test

RUN = {"model": {"context_length": 16, "d_model": 16, "n_layers": 1, "n_heads": 2}, "steps": 1}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write corpora a, b and c with 100, 40 and 3 training documents and two held-out documents each."""
    folder = tmp_path_factory.mktemp("mixture")
    for name, count in (("a", 100), ("b", 40), ("c", 3)):
        for split, n in (("train", count), ("val", 2)):
            lines = [json.dumps({"text": f"{name} {split} {number}"}) for number in range(n)]
            (folder / f"{name}.{split}.jsonl").write_text("\n".join(lines))
    return folder


def part(files: Path, name: str, weight: float | None = None) -> dict[str, Any]:
    paths = {"path": str(files / f"{name}.train.jsonl"), "val_path": str(files / f"{name}.val.jsonl")}
    return {"corpus": {"type": "jsonl", **paths}} | ({} if weight is None else {"weight": weight})


def mixture(*parts: dict[str, Any]) -> Corpus:
    return Reference("corpus").validate({"type": "mixture", "parts": list(parts)}).build()


@pytest.mark.parametrize(
    ("weight", "counts"),
    [
        (1.0, {1: 100}),
        (2, {2: 100}),
        (0.29, {1: 29}),
        (0.5, {1: 50}),
        (1.5, {1: 50, 2: 50}),
        (3.01, {3: 99, 4: 1}),
        (1e-2, {1: 1}),
    ],
)
def test_a_weight_is_the_number_of_copies_of_each_document(files: Path, weight: float, counts: dict[int, int]) -> None:
    counter = Counter(mixture(part(files, "a", weight)).documents("train"))
    assert Counter(counter.values()) == counts


@given(weights=st.tuples(st.floats(0.1, 4), st.floats(0.1, 4)))
def test_each_corpus_yields_documents_in_proportion_to_its_weight(files: Path, weights: tuple[float, float]) -> None:
    counts = Counter(text[0] for text in mixture(*map(part, [files] * 2, "ab", weights)).documents("train"))
    for name, count, weight in (("a", 100, weights[0]), ("b", 40, weights[1])):
        assert count * weight - 1 < counts[name] < count * weight + 1e-6


def test_a_fraction_is_spread_evenly_over_the_corpus(files: Path) -> None:
    numbers = [int(text.split()[-1]) for text in mixture(part(files, "a", 0.25)).documents("train")]
    assert numbers == list(range(3, 100, 4))


def test_copies_of_a_document_are_not_adjacent(files: Path) -> None:
    documents = list(mixture(part(files, "a", 2.5), part(files, "b", 3)).documents("train"))
    assert all(first != second for first, second in itertools.pairwise(documents))


def test_validation_has_each_held_out_document_once(files: Path) -> None:
    parts = part(files, "a", 3), part(files, "b", 0.1)
    expected = [f"{name} val {number}" for name in "ab" for number in range(2)]
    assert list(mixture(*parts).documents("val")) == expected


def test_the_default_weight_is_one_and_mixtures_nest(files: Path) -> None:
    inner = {"type": "mixture", "parts": [part(files, "a"), part(files, "c")]}
    counter = Counter(mixture({"corpus": inner, "weight": 2}, part(files, "b")).documents("train"))
    assert Counter(counter.values()) == {2: 103, 1: 40}


def test_the_fingerprint_covers_parts_and_weights(files: Path) -> None:
    fingerprints = [
        mixture(*parts).fingerprint()
        for parts in (
            [part(files, "a")],
            [part(files, "a", 2)],
            [part(files, "b")],
            [part(files, "a"), part(files, "b")],
            [part(files, "b"), part(files, "a")],
        )
    ]
    assert len(set(fingerprints)) == len(fingerprints)
    assert mixture(part(files, "a", 1)).fingerprint() == fingerprints[0]


def test_a_weight_that_selects_no_document_is_rejected(files: Path) -> None:
    with pytest.raises(
        DataError, match=r"part 2 \('jsonl'\) has too few documents for a weight of 0.25: none would be used"
    ):
        list(mixture(part(files, "a"), part(files, "c", 0.25)).documents("train"))


def test_errors_name_the_location_in_the_spec(files: Path) -> None:
    def error_of(*parts: Any) -> str:
        with pytest.raises(SpecError) as caught:
            gptzoo.load_run_spec({**RUN, "corpus": {"type": "mixture", "parts": list(parts)}})
        return str(caught.value)

    assert error_of() == "spec: $.corpus.parts: expected at least one corpus"
    assert error_of({**part(files, "a"), "weight": 0}) == "spec: $.corpus.parts[0].weight: should be greater than 0"
    assert "$.corpus.parts[1].corpus.feild: 'jsonl' has no option 'feild'; did you mean 'field'?" in error_of(
        part(files, "a"), {"corpus": {"type": "jsonl", "path": "x", "feild": 1}}
    )


def test_a_spec_next_to_the_files_survives_a_round_trip(files: Path) -> None:
    parts = [{"corpus": {"type": "jsonl", "path": "a.train.jsonl"}, "weight": 0.5}, {"corpus": "stories"}]
    (files / "run.json").write_text(json.dumps({**RUN, "corpus": {"type": "mixture", "parts": parts}}))
    spec = gptzoo.load_run_spec(files / "run.json")
    assert spec.corpus.parts[0].corpus.path == str(files / "a.train.jsonl")
    assert gptzoo.load_run_spec(spec.resolved()) == spec


def test_a_mixture_is_tokenized_in_the_order_of_its_documents(files: Path) -> None:
    corpus = mixture(part(files, "a", 0.5), part(files, "c", 2))
    tokenizer, store = prepare(corpus, Reference("tokenizer").validate("byte"))
    texts = [tokenizer.decode(store.train[begin:end].tolist()) for begin, end in store.spans["train"].tolist()]
    assert texts == list(corpus.documents("train"))


def test_it_has_the_properties_of_a_corpus(files: Path) -> None:
    subject = put_under_test(find_component("corpus:mixture"), {"parts": [part(files, "a", 0.5), part(files, "b", 2)]})
    for property_ in properties_of("corpus"):
        expected = "skipped" if "file" in property_.name else "passed"  # it reads no files itself
        assert check_property(property_, subject).outcome == expected
