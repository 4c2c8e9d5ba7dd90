"""Documents through Hugging Face `datasets`, from local files."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from gptzoo.data.corpora.corpus import Corpus
from gptzoo.data.prepare import prepare
from gptzoo.errors import DataError
from gptzoo.reference import Reference
from gptzoo.testing.properties.catalog import properties_of
from gptzoo.testing.runner import check_property, find_component, put_under_test

datasets = pytest.importorskip("datasets")

TEXTS = [f"document {number} of many, é\n" for number in range(200)]


@pytest.fixture(autouse=True)
def _private_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "datasets")
    datasets.disable_progress_bars()


def build_corpus(path: Path | str, **options: Any) -> Corpus:
    return Reference("corpus").validate({"type": "hf", "path": str(path), **options}).build()


def write(folder: Path, texts: list[Any] = TEXTS, name: str = "train", column: str = "text") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    lines = (json.dumps({column: text, "n": number}) + "\n" for number, text in enumerate(texts))
    (folder / f"{name}.jsonl").write_text("".join(lines))
    return folder


@pytest.mark.parametrize("streaming", [True, False])
def test_the_split_is_the_same_as_for_json_lines(streaming: bool, tmp_path: Path) -> None:
    folder = write(tmp_path / "in")
    corpus = build_corpus(folder, streaming=streaming)
    jsonl = Reference("corpus").validate({"type": "jsonl", "path": str(folder)}).build()
    for split in ("train", "val"):
        assert list(corpus.documents(split)) == list(jsonl.documents(split))


def test_val_split_is_the_validation_split_of_the_dataset(tmp_path: Path) -> None:
    write(tmp_path / "in", ["held", "out"], name="validation")
    corpus = build_corpus(write(tmp_path / "in"), val_split="validation")
    assert list(corpus.documents("train")) == TEXTS
    assert list(corpus.documents("val")) == ["held", "out"]


def test_parquet_files_are_read(tmp_path: Path) -> None:
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    (tmp_path / "in").mkdir()
    pq.write_table(pa.table({"content": TEXTS}), tmp_path / "in" / "train.parquet")
    corpus = build_corpus(tmp_path / "in", column="content")
    assert sorted([*corpus.documents("train"), *corpus.documents("val")]) == sorted(TEXTS)


def test_its_tokens_are_cached(tmp_path: Path) -> None:
    _, store = prepare(build_corpus(write(tmp_path / "in")), Reference("tokenizer").validate("byte"), workers=2)
    assert len(store.spans["train"]) + len(store.spans["val"]) == 200


def test_a_path_is_a_folder_next_to_the_spec_or_else_a_name_on_the_hub(tmp_path: Path) -> None:
    write(tmp_path / "in")
    context = {"folder": tmp_path}
    assert Reference("corpus").validate({"type": "hf", "path": "in"}, context).path == str(tmp_path / "in")
    assert Reference("corpus").validate({"type": "hf", "path": "owner/name"}, context).path == "owner/name"


def test_the_fingerprint_changes_with_files_and_options_but_not_with_streaming(tmp_path: Path) -> None:
    write(tmp_path / "in", ["held", "out"], name="validation")
    folder = write(tmp_path / "in")

    def fingerprints() -> list[str]:
        options = [{}, {"val_fraction": 0.2}, {"column": "n"}, {"split": "validation"}, {"val_split": "validation"}]
        return [build_corpus(folder, **each).fingerprint() for each in options]

    before = fingerprints()
    assert len(set(before)) == len(before)
    assert fingerprints() == before
    assert build_corpus(folder, streaming=False).fingerprint() == before[0]
    file = folder / "train.jsonl"
    os.utime(file, (1e9, 1e9))
    assert not set(before) & set(fingerprints())


@pytest.mark.parametrize("streaming", [True, False])
@pytest.mark.parametrize(
    ("texts", "options", "reason"),
    [
        (TEXTS, {"column": "txt"}, r"split 'train' has no column 'txt' \(columns: 'text', 'n'\)"),
        (TEXTS, {"column": "n"}, "split 'train', row 1: 'n' holds no text"),
        (["a", None, "b"], {}, "split 'train', row 2: 'text' holds no text"),
        (TEXTS, {"split": "trian"}, "cannot load it: ValueError: .*trian"),
        (["only one"], {}, "no text for the val split; give more text, or set val_split"),
    ],
)
def test_the_error_for_unreadable_data_names_its_location(
    streaming: bool, texts: list[Any], options: dict[str, Any], reason: str, tmp_path: Path
) -> None:
    corpus = build_corpus(write(tmp_path / "in", texts), streaming=streaming, **options)
    with pytest.raises(DataError, match=r"corpus 'hf': .*in: .*" + reason):
        [*corpus.documents("train"), *corpus.documents("val")]


def test_a_broken_line_is_reported(tmp_path: Path) -> None:
    folder = write(tmp_path / "in")
    with (folder / "train.jsonl").open("a") as lines:
        lines.write("{broken\n")
    with pytest.raises(DataError, match=r"corpus 'hf': .*in: `datasets` (cannot|failed)"):
        list(build_corpus(folder).documents("train"))


def test_an_unreachable_hub_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*arguments: Any, **options: Any) -> Any:
        raise ConnectionError("no route to host")

    monkeypatch.setattr(datasets, "load_dataset_builder", offline)
    with pytest.raises(DataError, match="owner/name: `datasets` cannot load it: ConnectionError: no route to host"):
        build_corpus("owner/name").fingerprint()


def test_without_datasets_the_error_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(DataError, match=r"'hf' needs the package `datasets`: pip install 'gptzoo\[hf\]'"):
        build_corpus(write(tmp_path / "in")).fingerprint()


def test_it_has_the_properties_of_a_corpus(tmp_path: Path) -> None:
    subject = put_under_test(find_component("corpus:hf"), {"path": str(write(tmp_path / "in"))})
    verdicts = {property_.name: check_property(property_, subject) for property_ in properties_of("corpus")}
    of_other_files = {name for name, verdict in verdicts.items() if "not as a FileCorpus does" in verdict.text}
    assert of_other_files == {"files", "file_fingerprint"}  # tested here instead
    assert {verdict.outcome for name, verdict in verdicts.items() if name not in of_other_files} == {"passed"}
