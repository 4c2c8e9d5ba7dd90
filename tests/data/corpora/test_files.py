import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gptzoo.data.corpora.corpus import Corpus
from gptzoo.errors import DataError
from gptzoo.reference import Reference

TEXTS = [f"document {number} of many\n" for number in range(200)]


def build_corpus(kind: str, path: Path, **options: Any) -> Corpus:
    return Reference("corpus").validate({"type": kind, "path": str(path), **options}).build()


def documents(corpus: Corpus) -> tuple[list[str], list[str]]:
    return list(corpus.documents("train")), list(corpus.documents("val"))


def everything(corpus: Corpus) -> list[str]:
    train, val = documents(corpus)
    return train + val


def write_folder(folder: Path, texts: list[str]) -> Path:
    for number, text in enumerate(texts):
        file = folder / f"part{number % 3}" / f"{number:04d}.txt"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(text.encode())
    return folder


def write_jsonl(file: Path, texts: list[Any], field: str = "text") -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(json.dumps({field: text}) + "\n" for text in texts), encoding="utf-8")
    return file


# ---------------------------------------------------------------------- splits


@given(text=st.text(min_size=2, max_size=200), fraction=st.floats(0.01, 0.99))
def test_one_file_is_cut_once_without_loss(
    tmp_path_factory: pytest.TempPathFactory, text: str, fraction: float
) -> None:
    file = tmp_path_factory.mktemp("corpus") / "a.txt"
    file.write_bytes(text.encode())
    cut = int(len(text) * (1 - fraction))
    corpus = build_corpus("text", file, val_fraction=fraction)
    if cut == 0:
        with pytest.raises(DataError, match="no text for the train split"):
            documents(corpus)
    else:
        expected = text[:cut], text[cut:]
        if text[0] == "\ufeff":
            return  # a byte order mark, not text
        assert documents(corpus) == ([expected[0]], [expected[1]])


def test_one_file_is_cut_where_nanogpt_cuts_it(tmp_path: Path) -> None:
    text = "é" * 1003
    (tmp_path / "a.txt").write_bytes(text.encode())
    train, val = documents(build_corpus("text", tmp_path / "a.txt"))
    assert (len(train[0]), len(val[0])) == (int(1003 * 0.9), 1003 - int(1003 * 0.9))


@pytest.mark.parametrize("kind", ["text", "jsonl"])
def test_documents_are_held_out_by_their_content(kind: str, tmp_path: Path) -> None:
    def make(name: str, texts: list[str]) -> Path:
        return write_folder(tmp_path / name, texts) if kind == "text" else write_jsonl(tmp_path / name, texts)

    train, val = documents(build_corpus(kind, make("a", TEXTS)))
    assert sorted(train + val) == sorted(TEXTS)
    assert 8 <= len(val) <= 34  # 20 expected; three standard deviations are 13
    # Another order, more documents, or one of them twice: each document stays in its split.
    again = documents(build_corpus(kind, make("b", [*TEXTS[::-1], "a new one", *TEXTS[:5]])))
    assert set(train) <= set(again[0])
    assert set(val) <= set(again[1])
    assert not set(again[0]) & set(again[1])


@pytest.mark.parametrize("fraction", [0.3, 0.7])
def test_about_val_fraction_of_the_documents_are_held_out(fraction: float, tmp_path: Path) -> None:
    train, val = documents(build_corpus("jsonl", write_jsonl(tmp_path / "a", TEXTS), val_fraction=fraction))
    assert abs(len(val) / (len(train) + len(val)) - fraction) < 0.12


@pytest.mark.parametrize("kind", ["text", "jsonl"])
def test_with_val_path_all_of_path_is_training_text(kind: str, tmp_path: Path) -> None:
    if kind == "text":
        paths = tmp_path / "train.txt", write_folder(tmp_path / "val", ["held", "out"])
        paths[0].write_text("all of this")
        expected = (["all of this"], ["held", "out"])
    else:
        paths = write_jsonl(tmp_path / "train", TEXTS), write_jsonl(tmp_path / "val", ["held", "out"])
        expected = (TEXTS, ["held", "out"])
    assert documents(build_corpus(kind, paths[0], val_path=str(paths[1]))) == expected


def test_a_folder_is_searched_recursively_in_sorted_order_for_files_with_the_suffix(tmp_path: Path) -> None:
    for name in ("b.txt", "a/z.txt", "a/b.txt", "c.md", "a/x.jsonl"):
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "in" / name).write_text(name)
    (tmp_path / "val.txt").write_text("x")
    assert documents(build_corpus("text", tmp_path / "in", val_path=str(tmp_path / "val.txt")))[0] == [
        "a/b.txt",
        "a/z.txt",
        "b.txt",
    ]


def test_documents_are_read_lazily(tmp_path: Path) -> None:
    file = write_jsonl(tmp_path / "a.jsonl", TEXTS)
    with file.open("a") as lines:
        lines.write("{broken")
    first = next(iter(build_corpus("jsonl", file).documents("train")))
    assert first in TEXTS


def test_empty_documents_are_skipped(tmp_path: Path) -> None:
    file = write_jsonl(tmp_path / "a.jsonl", ["", *TEXTS, ""])
    assert "" not in everything(build_corpus("jsonl", file))


@pytest.mark.parametrize(
    ("kind", "texts", "options", "reason"),
    [
        ("text", [""], {}, "no text for the train split; all of its files are empty; give more text, or set val_path"),
        ("jsonl", ["only one"], {}, "no text for the val split; give more text, or set val_path"),
        ("jsonl", [], {}, "no text for the train split"),
    ],
)
def test_the_error_for_an_empty_split_says_what_to_do(
    kind: str, texts: list[str], options: dict[str, Any], reason: str, tmp_path: Path
) -> None:
    file = tmp_path / "it"
    write_jsonl(file, texts) if kind == "jsonl" else file.write_text("".join(texts))
    with pytest.raises(DataError, match=rf"'{kind}': .*it: {reason}.*"):
        documents(build_corpus(kind, file, **options))


def test_the_error_names_an_empty_val_path(tmp_path: Path) -> None:
    (tmp_path / "train.txt").write_text("abc")
    (tmp_path / "empty.txt").write_text("")
    with pytest.raises(DataError, match=r"empty\.txt: no text for the val split; all of its files are empty; add"):
        documents(build_corpus("text", tmp_path / "train.txt", val_path=str(tmp_path / "empty.txt")))


# ---------------------------------------------------------------------- reading


def test_line_ends_are_kept(tmp_path: Path) -> None:
    text = "one\r\ntwo\rthree\n" * 10
    (tmp_path / "a.txt").write_bytes(text.encode())
    train, val = documents(build_corpus("text", tmp_path / "a.txt"))
    assert train[0] + val[0] == text


def test_json_lines_end_only_at_newlines(tmp_path: Path) -> None:
    texts = ["a\u2028b", "c\x0bd\x85e", "f\r\ng", *TEXTS]
    file = tmp_path / "a.jsonl"
    lines = "\r\n".join(json.dumps({"text": text}, ensure_ascii=False) for text in texts)
    file.write_bytes(b"\xef\xbb\xbf" + lines.encode() + b"\n\n  \n")
    assert sorted(everything(build_corpus("jsonl", file))) == sorted(texts)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b'{"text": "a"', "not a line of JSON"),
        (b"[" * 100_000, "not a line of JSON"),
        (b'{"txt": "a", "n": 1}', "has no text under 'text' (keys: 'txt', 'n'); set the corpus's `field`"),
        (b'{"text": 3}', "has no text under 'text' (keys: 'text')"),
        (b'["text"]', "has no text under 'text' (the line is not an object)"),
        (b'{"text": "\\ud800"}', "lone surrogate"),
        (b'{"text": "\xff"}', "byte 10 of the line is not UTF-8"),
        ('{"text": "a"}'.encode("utf-16"), "not UTF-8"),
    ],
)
def test_the_error_for_an_invalid_line_names_its_number(line: bytes, reason: str, tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl"
    file.write_bytes(b'{"text": "good"}\n\n' + line + b"\n")
    with pytest.raises(DataError, match=rf"a\.jsonl:3: .*{re.escape(reason)}"):
        documents(build_corpus("jsonl", file))


def test_the_text_field_is_configurable(tmp_path: Path) -> None:
    file = write_jsonl(tmp_path / "a.jsonl", TEXTS, field="content")
    assert sorted(everything(build_corpus("jsonl", file, field="content"))) == sorted(TEXTS)


def test_the_error_for_invalid_utf8_names_the_offset(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes("é".encode() + b"\xe9t\xe9")
    with pytest.raises(DataError, match=r"a\.txt: byte 2 is not UTF-8"):
        documents(build_corpus("text", tmp_path / "a.txt"))


# ---------------------------------------------------------------------- paths


def test_a_relative_path_is_searched_in_the_spec_folder_then_in_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec_folder, current_folder = tmp_path / "specs", tmp_path / "current_folder"
    for folder in (spec_folder, current_folder):
        folder.mkdir()
        (folder / "both.txt").touch()
    (current_folder / "one.txt").touch()
    monkeypatch.chdir(current_folder)

    def path_of(path: str, context: Any = None) -> str:
        return Reference("corpus").validate({"type": "text", "path": path}, context).path

    context = {"folder": spec_folder}
    assert path_of("both.txt", context) == str(spec_folder / "both.txt")
    assert path_of("one.txt", context) == str(current_folder / "one.txt")
    assert path_of("both.txt") == str(current_folder / "both.txt")
    assert path_of("gone.txt", context) == str(spec_folder / "gone.txt")
    monkeypatch.setenv("HOME", str(spec_folder))
    assert path_of("~/both.txt") == str(spec_folder / "both.txt")


def test_the_error_for_a_missing_path_names_the_searched_folders(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    current_folder = tmp_path / "current_folder"
    current_folder.mkdir()
    monkeypatch.chdir(current_folder)
    config = Reference("corpus").validate({"type": "jsonl", "path": "gone.jsonl"}, {"folder": tmp_path})
    for read in (lambda: config.build().fingerprint(), lambda: documents(config.build())):
        with pytest.raises(
            DataError, match=re.escape(str(tmp_path / "gone.jsonl")) + ".*" + re.escape(str(current_folder))
        ):
            read()


def test_an_empty_path_is_rejected() -> None:
    with pytest.raises(ValueError, match="at least 1 character"):
        Reference("corpus").validate({"type": "text", "path": ""})


def test_a_folder_without_matching_files_is_rejected(tmp_path: Path) -> None:
    (tmp_path / "a.md").touch()
    with pytest.raises(DataError, match=r"has no \.txt files"):
        documents(build_corpus("text", tmp_path))


def test_a_config_survives_a_json_round_trip(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "a.jsonl", TEXTS)
    config = Reference("corpus").validate({"type": "jsonl", "path": "a.jsonl"}, {"folder": tmp_path})
    assert Reference("corpus").validate(json.loads(config.model_dump_json())) == config


# ---------------------------------------------------------------------- fingerprints


def test_the_fingerprint_depends_on_the_content_not_the_path(tmp_path: Path) -> None:
    one, other = write_jsonl(tmp_path / "a.jsonl", TEXTS), write_jsonl(tmp_path / "b" / "c.jsonl", TEXTS)
    assert build_corpus("jsonl", one).fingerprint() == build_corpus("jsonl", other).fingerprint()


def test_the_fingerprint_changes_with_the_documents(tmp_path: Path) -> None:
    file = write_jsonl(tmp_path / "a.jsonl", TEXTS)
    changed = write_jsonl(tmp_path / "b.jsonl", [*TEXTS[:-1], "document 199 of mani\n"])
    fingerprints = [
        corpus.fingerprint()
        for corpus in (
            build_corpus("jsonl", file),
            build_corpus("jsonl", changed),
            build_corpus("jsonl", file, val_fraction=0.2),
            build_corpus("jsonl", file, val_path=str(changed)),
            build_corpus("jsonl", changed, val_path=str(file)),
            build_corpus("jsonl", file, field="other"),
            build_corpus("text", file),
            build_corpus("text", write_folder(tmp_path / "both", ["one", "two"])),
            build_corpus("text", tmp_path / "both" / "part0", val_path=str(tmp_path / "both" / "part1")),
        )
    ]
    assert len(set(fingerprints)) == len(fingerprints)
