"""The corpus `parquet`."""

from __future__ import annotations

import json
import random
import re
import sys
import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from gptzoo.data.corpora.corpus import Corpus
from gptzoo.errors import DataError
from gptzoo.reference import Reference
from gptzoo.testing.properties.catalog import properties_of
from gptzoo.testing.runner import check_property, find_component, put_under_test

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")

TEXTS = [f"document {number} of many, é\n" for number in range(700)]


def build_corpus(path: Path, **options: Any) -> Corpus:
    return Reference("corpus").validate({"type": "parquet", "path": str(path), **options}).build()


def write(file: Path, texts: Any, column: str = "text", **options: Any) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table({"n": list(range(len(texts))), column: texts}), file, **options)
    return file


def everything(corpus: Corpus) -> list[str]:
    return [*corpus.documents("train"), *corpus.documents("val")]


@pytest.mark.parametrize("row_group_size", [1, 100, 1000])
def test_each_row_is_a_document_in_order(row_group_size: int, tmp_path: Path) -> None:
    file = write(tmp_path / "a.parquet", TEXTS, row_group_size=row_group_size)
    val = write(tmp_path / "val.parquet", ["held", "out"])
    corpus = build_corpus(file, val_path=str(val))
    assert list(corpus.documents("train")) == TEXTS
    assert list(corpus.documents("val")) == ["held", "out"]


def test_the_split_is_the_same_as_for_json_lines(tmp_path: Path) -> None:
    lines = tmp_path / "a.jsonl"
    lines.write_text("".join(json.dumps({"text": text}) + "\n" for text in TEXTS))
    corpus = build_corpus(write(tmp_path / "a.parquet", TEXTS))
    jsonl = Reference("corpus").validate({"type": "jsonl", "path": str(lines)}).build()
    for split in ("train", "val"):
        assert list(corpus.documents(split)) == list(jsonl.documents(split))


@pytest.mark.parametrize("kind", ["large_string", "dictionary"])
def test_all_string_types_of_arrow_are_read(kind: str, tmp_path: Path) -> None:
    texts = pa.array(TEXTS, pa.large_string()) if kind == "large_string" else pa.array(TEXTS).dictionary_encode()
    assert sorted(everything(build_corpus(write(tmp_path / "a.parquet", texts)))) == sorted(TEXTS)


def test_a_folder_of_files_is_read_in_sorted_order(tmp_path: Path) -> None:
    for name, texts in (("b", ["3"]), ("a/z", ["1", "2"])):
        write(tmp_path / "in" / f"{name}.parquet", texts)
    val = write(tmp_path / "val.parquet", ["x"])
    assert list(build_corpus(tmp_path / "in", val_path=str(val)).documents("train")) == ["1", "2", "3"]


def test_the_column_is_configurable_and_part_of_the_fingerprint(tmp_path: Path) -> None:
    file = write(tmp_path / "a.parquet", TEXTS, column="content")
    assert sorted(everything(build_corpus(file, column="content"))) == sorted(TEXTS)
    assert build_corpus(file, column="content").fingerprint() != build_corpus(file).fingerprint()


@pytest.mark.parametrize(
    ("table", "reason"),
    [
        ({"content": ["a"], "n": [1]}, "has no column 'text' (columns: 'content', 'n'); set the corpus's `column`"),
        ({"text": [1, 2]}, "column 'text' holds int64, not text"),
        ({"text": ["a", None]}, "row 2: the text is null"),
    ],
)
def test_a_table_without_text_is_rejected(table: dict[str, Any], reason: str, tmp_path: Path) -> None:
    pq.write_table(pa.table(table), tmp_path / "a.parquet")
    with pytest.raises(DataError, match=r"a\.parquet: " + re.escape(reason)):
        everything(build_corpus(tmp_path / "a.parquet"))


def test_the_error_for_invalid_utf8_names_the_row(tmp_path: Path) -> None:
    bad = pa.array([b"good", b"ab\xff"]).view(pa.string())
    write(tmp_path / "a.parquet", bad)
    with pytest.raises(DataError, match=r"row 2: byte 2 of the text is not UTF-8"):
        everything(build_corpus(tmp_path / "a.parquet"))


@pytest.mark.parametrize("damage", ["truncated", "flipped", "no parquet"])
def test_the_error_names_a_damaged_file(damage: str, tmp_path: Path) -> None:
    file = write(tmp_path / "a.parquet", TEXTS, compression="gzip")
    data = file.read_bytes()
    start = data.rindex(b"\x1f\x8b")
    flipped = data[: start + 20] + bytes(200) + data[start + 220 :]
    file.write_bytes({"truncated": data[:-100], "flipped": flipped, "no parquet": b"text"}[damage])
    with pytest.raises(DataError, match=r"a\.parquet: "):
        everything(build_corpus(file))


def test_without_pyarrow_the_error_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = write(tmp_path / "a.parquet", TEXTS)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(DataError, match=r"'parquet' needs the package `pyarrow`: pip install 'gptzoo\[data\]'"):
        everything(build_corpus(file))


def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    def peak(n_documents: int) -> tuple[int, int]:
        # One row group, and text that does not compress.
        text = random.Random(1).randbytes(1000 * n_documents).hex()
        texts = [text[start : start + 2000] for start in range(0, len(text), 2000)]
        file = write(tmp_path / "a.parquet", texts, use_dictionary=False)
        del text, texts
        arrow_before, arrow_peak = pa.total_allocated_bytes(), 0
        tracemalloc.start()
        for _ in build_corpus(file, val_path=str(file)).documents("train"):
            arrow_peak = max(arrow_peak, pa.total_allocated_bytes() - arrow_before)
        python_peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return python_peak, arrow_peak

    few, many = peak(2000), peak(20_000)  # 4 MB and 40 MB
    assert many[0] < few[0] + 500_000
    assert many[1] < few[1] + 2_000_000


def test_it_has_the_properties_of_a_corpus(tmp_path: Path) -> None:
    subject = put_under_test(find_component("corpus:parquet"), {"path": str(write(tmp_path / "a.parquet", TEXTS))})
    for property_ in properties_of("corpus"):
        assert str(check_property(property_, subject)) == f"{property_.name} passed"
