"""Documents through Hugging Face `datasets`, from local files."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from gptzoo.data.corpora.corpus import Corpus
from gptzoo.data.token_store import prepare
from gptzoo.errors import DataError
from gptzoo.reference import Reference
from gptzoo.testing.properties.catalog import properties_of
from gptzoo.testing.runner import find, subject_of, verdict

datasets = pytest.importorskip("datasets")

TEXTS = [f"document {number} of many, é\n" for number in range(200)]


@pytest.fixture(autouse=True)
def _private(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "datasets")
    datasets.disable_progress_bars()


def corpus(path: Path | str, **options: Any) -> Corpus:
    return Reference("corpus").validate({"type": "hf", "path": str(path), **options}).build()


def write(folder: Path, texts: list[Any] = TEXTS, name: str = "train", column: str = "text") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    lines = (json.dumps({column: text, "n": number}) + "\n" for number, text in enumerate(texts))
    (folder / f"{name}.jsonl").write_text("".join(lines))
    return folder


@pytest.mark.parametrize("streaming", [True, False])
def test_the_split_is_that_of_the_same_documents_in_json_lines(streaming: bool, tmp_path: Path) -> None:
    folder = write(tmp_path / "in")
    it = corpus(folder, streaming=streaming)
    jsonl = Reference("corpus").validate({"type": "jsonl", "path": str(folder)}).build()
    for split in ("train", "val"):
        assert list(it.documents(split)) == list(jsonl.documents(split))


def test_a_dataset_may_have_a_validation_split_of_its_own(tmp_path: Path) -> None:
    write(tmp_path / "in", ["held", "out"], name="validation")
    it = corpus(write(tmp_path / "in"), val_split="validation")
    assert list(it.documents("train")) == TEXTS
    assert list(it.documents("val")) == ["held", "out"]


def test_parquet_files_are_read_too(tmp_path: Path) -> None:
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    (tmp_path / "in").mkdir()
    pq.write_table(pa.table({"content": TEXTS}), tmp_path / "in" / "train.parquet")
    it = corpus(tmp_path / "in", column="content")
    assert sorted([*it.documents("train"), *it.documents("val")]) == sorted(TEXTS)


def test_its_tokens_are_kept_as_those_of_any_corpus(tmp_path: Path) -> None:
    _, store = prepare(corpus(write(tmp_path / "in")), Reference("tokenizer").validate("byte"), workers=2)
    assert len(store.spans["train"]) + len(store.spans["val"]) == 200


def test_a_folder_beside_the_spec_is_found_and_what_is_none_is_a_name(tmp_path: Path) -> None:
    write(tmp_path / "in")
    context = {"folder": tmp_path}
    assert Reference("corpus").validate({"type": "hf", "path": "in"}, context).path == str(tmp_path / "in")
    assert Reference("corpus").validate({"type": "hf", "path": "owner/name"}, context).path == "owner/name"


def test_the_fingerprint_changes_with_files_and_options_and_not_with_how_it_is_read(tmp_path: Path) -> None:
    write(tmp_path / "in", ["held", "out"], name="validation")
    folder = write(tmp_path / "in")

    def made() -> list[str]:
        options = [{}, {"val_fraction": 0.2}, {"column": "n"}, {"split": "validation"}, {"val_split": "validation"}]
        return [corpus(folder, **each).fingerprint() for each in options]

    before = made()
    assert len(set(before)) == len(before)
    assert made() == before
    assert corpus(folder, streaming=False).fingerprint() == before[0]
    file = folder / "train.jsonl"
    os.utime(file, (1e9, 1e9))
    assert not set(before) & set(made())


@pytest.mark.parametrize("streaming", [True, False])
@pytest.mark.parametrize(
    ("texts", "options", "reason"),
    [
        (TEXTS, {"column": "txt"}, r"split 'train' has no column 'txt' \(columns: 'text', 'n'\)"),
        (TEXTS, {"column": "n"}, "split 'train', row 1: 'n' holds no text"),
        (["a", None, "b"], {}, "split 'train', row 2: 'text' holds no text"),
        (TEXTS, {"split": "trian"}, "cannot read it: ValueError: .*trian"),
        (["only one"], {}, "nothing is left for the val split; give more text, or a val_split"),
    ],
)
def test_what_cannot_be_read_is_named(
    streaming: bool, texts: list[Any], options: dict[str, Any], reason: str, tmp_path: Path
) -> None:
    it = corpus(write(tmp_path / "in", texts), streaming=streaming, **options)
    with pytest.raises(DataError, match=r"corpus 'hf': .*in: .*" + reason):
        [*it.documents("train"), *it.documents("val")]


def test_a_line_that_breaks_halfway_is_told(tmp_path: Path) -> None:
    folder = write(tmp_path / "in")
    with (folder / "train.jsonl").open("a") as lines:
        lines.write("{broken\n")
    with pytest.raises(DataError, match=r"corpus 'hf': .*in: `datasets` cannot"):
        list(corpus(folder).documents("train"))


def test_a_hub_that_cannot_be_reached_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*arguments: Any, **options: Any) -> Any:
        raise ConnectionError("no route to host")

    monkeypatch.setattr(datasets, "load_dataset_builder", offline)
    with pytest.raises(DataError, match="owner/name: `datasets` cannot read it: ConnectionError: no route to host"):
        corpus("owner/name").fingerprint()


def test_without_datasets_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(DataError, match=r"'hf' needs the package `datasets`: pip install 'gptzoo\[hf\]'"):
        corpus(write(tmp_path / "in")).fingerprint()


def test_it_has_the_properties_of_a_corpus(tmp_path: Path) -> None:
    subject = subject_of(find("corpus:hf"), {"path": str(write(tmp_path / "in"))})
    for one in properties_of("corpus"):
        assert str(verdict(one, subject)) == f"{one.name} passed"
