"""Held-out text that is also in the training text: counted by brute force, and removed where documents are equal."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

from gptzoo.component import Config
from gptzoo.data import held_out as held_out_module
from gptzoo.data.corpora import file_text
from gptzoo.data.corpora.corpus import Corpus
from gptzoo.data.held_out import HeldOutText, Overlap, OverlapMeter
from gptzoo.data.prepare import prepare
from gptzoo.data.token_store import TokenStore, open_store
from gptzoo.data.tokenizers.tokenizer import Tokenizer
from gptzoo.errors import DataError
from gptzoo.reference import Reference

WORDS = ("alpha", "beta", "gamma", "river", "stone", "cloud", "light", "green", "seven", "über")


def lines(n: int, seed: int = 0) -> list[str]:
    rng = random.Random(seed)
    return [" ".join(rng.choice(WORDS) for _ in range(rng.randint(4, 14))) for _ in range(n)]


def write_jsonl(file: Path, documents: list[str]) -> str:
    file.write_text("".join(json.dumps({"text": document}) + "\n" for document in documents))
    return str(file)


def corpus_of(value: dict[str, Any]) -> Corpus:
    corpus: Corpus = Reference("corpus").validate(value).build()
    return corpus


def tokenizer_config(kind: str = "byte", **options: Any) -> Config:
    config: Config = Reference("tokenizer").validate({"type": kind, **options})
    return config


def documents_of(prepared: tuple[Tokenizer, TokenStore], split: str) -> list[str]:
    tokenizer, store = prepared
    return [tokenizer.decode(getattr(store, split)[begin:end].tolist()) for begin, end in store.spans[split].tolist()]


def without_spaces(text: str) -> str:
    return "".join(text.split())


def overlap_of(store: TokenStore) -> Overlap:
    assert store.overlap is not None
    return store.overlap


def brute_force(train: list[str], kept: list[str], val: list[str]) -> dict[str, Any]:
    """Compare each held-out document and line with each of the training text."""
    in_train = [" ".join(line.split()) for document in kept for line in document.split("\n")]
    in_val = [" ".join(line.split()) for document in val for line in document.split("\n") if line.strip()]
    return {
        "documents": len(val),
        "equal_documents": sum(document in train for document in val),
        "similar_documents": sum(without_spaces(d) in map(without_spaces, train) for d in val),
        "lines": len(in_val),
        "repeated_lines": sum(line in in_train for line in in_val),
        "long_lines": sum(len(line) >= 50 for line in in_val),
        "repeated_long_lines": sum(len(line) >= 50 and line in in_train for line in in_val),
    }


def measured(overlap: Overlap, names: dict[str, Any]) -> dict[str, Any]:
    return {name: getattr(overlap, name) for name in names}


CORPORA = ("two fractions", "val_path", "trailing space", "text and jsonl", "folder of files", "train_val", "weights")


def corpus_with_overlap(kind: str, folder: Path) -> Corpus:
    """Return a corpus whose held-out text is partly in its training text, in one of the ways of careless users."""
    texts = lines(300)
    file = write_jsonl(folder / "a.jsonl", texts)
    jsonl = {"type": "jsonl", "path": file}
    other = {"type": "jsonl", "path": write_jsonl(folder / "b.jsonl", [text + " " for text in texts])}
    (folder / "a.txt").write_text("\n".join(texts))
    (folder / "files").mkdir()
    for number, text in enumerate([*texts[:40], *(text + "\n" for text in texts[:40])]):
        (folder / "files" / f"{number:03}.txt").write_text(text)
    parts = {
        "two fractions": [{**jsonl, "val_fraction": 0.1}, {**jsonl, "val_fraction": 0.05}],
        "trailing space": [jsonl, other],
        "text and jsonl": [jsonl, {"type": "text", "path": str(folder / "a.txt")}],
    }
    if kind in parts:
        return corpus_of({"type": "mixture", "parts": [{"corpus": part} for part in parts[kind]]})
    if kind == "weights":
        weighted = [{"corpus": {**jsonl, "val_fraction": 0.3}, "weight": 2.5}, {"corpus": other, "weight": 0.5}]
        return corpus_of({"type": "mixture", "parts": weighted})
    held = {"type": "jsonl", "path": file, "val_path": write_jsonl(folder / "val.jsonl", ["new text", *texts[::5]])}
    return corpus_of(
        {
            "val_path": held,
            "folder of files": {"type": "text", "path": str(folder / "files"), "val_fraction": 0.3},
            "train_val": {"type": "train_val", "train": other, "val": held},
        }[kind]
    )


@pytest.mark.parametrize("kind", CORPORA)
@pytest.mark.parametrize("workers", [1, 2])
def test_documents_that_equal_a_held_out_one_leave_the_training_text(kind: str, workers: int, tmp_path: Path) -> None:
    corpus = corpus_with_overlap(kind, tmp_path)
    train, val = list(corpus.documents("train")), list(corpus.documents("val"))
    prepared = prepare(corpus, tokenizer_config(), workers=workers)
    kept = documents_of(prepared, "train")
    assert documents_of(prepared, "val") == val
    in_val = {without_spaces(document) for document in val}
    if kind == "weights":  # duplicates leave before weights are applied, so that the rest has its exact weights
        assert {d for d in train if without_spaces(d) not in in_val} <= set(kept) | set(train[-len(train) // 3 :])
        assert not {without_spaces(document) for document in kept} & in_val
    else:
        assert kept == [document for document in train if without_spaces(document) not in in_val]
    overlap = overlap_of(prepared[1])
    if kind == "text and jsonl":  # the held-out lines of one are inside the continuous text of the other
        assert overlap.duplicates == 0
        assert overlap.is_high
    else:
        assert overlap.duplicates > 0
        assert overlap.removed
        assert f"{overlap.duplicates:,} training documents equal to a held-out one were removed" in overlap.describe()
    if kind != "weights":
        assert overlap.duplicates == len(train) - len(kept)
        expected = brute_force(train, kept, val)
        assert measured(overlap, expected) == expected


def test_the_text_of_training_and_what_is_fitted_on_it_have_no_removed_document(tmp_path: Path) -> None:
    train, val = ["abc\n", "xyz ", "abcabc"], ["xyz", "cab"]
    corpus = corpus_of(
        {
            "type": "jsonl",
            "path": write_jsonl(tmp_path / "train.jsonl", train),
            "val_path": write_jsonl(tmp_path / "val.jsonl", val),
        }
    )
    with pytest.raises(DataError, match="val split, document 1: tokenizer 'char' has no token for 'x'"):
        prepare(corpus, tokenizer_config("char"))


def test_a_document_is_numbered_in_errors_as_in_the_corpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from gptzoo.data.tokenizers.byte import ByteTokenizer

    def encode(self: ByteTokenizer, text: str) -> list[int]:
        if text == "bad":
            raise DataError("cannot encode it")
        return list(text.encode())

    monkeypatch.setattr(ByteTokenizer, "encode", encode)
    train = write_jsonl(tmp_path / "train.jsonl", ["one", "held", "two", " held", "bad"])
    val = write_jsonl(tmp_path / "val.jsonl", ["held"])
    with pytest.raises(DataError, match="train split, document 5: cannot encode it"):
        prepare(corpus_of({"type": "jsonl", "path": train, "val_path": val}), tokenizer_config())


def test_text_that_is_held_out_entirely_is_refused(tmp_path: Path) -> None:
    file = write_jsonl(tmp_path / "a.jsonl", lines(20))
    with pytest.raises(DataError, match="every training document equals a held-out document"):
        prepare(corpus_of({"type": "jsonl", "path": file, "val_path": file}), tokenizer_config())
    _, store = prepare(
        corpus_of({"type": "jsonl", "path": file, "val_path": file}), tokenizer_config(), keep_duplicates=True
    )
    assert overlap_of(store).similar_documents == overlap_of(store).duplicates == 20
    assert not overlap_of(store).removed
    assert overlap_of(store).is_high


def test_nothing_is_removed_from_continuous_text_but_its_lines_are_counted(tmp_path: Path) -> None:
    texts = lines(200)
    (tmp_path / "a.txt").write_text("\n".join(texts))
    (tmp_path / "v.txt").write_text("\n".join([f"  {text}\t" for text in texts[:50]] + lines(50, seed=1)))
    corpus = corpus_of({"type": "text", "path": str(tmp_path / "a.txt"), "val_path": str(tmp_path / "v.txt")})
    prepared = prepare(corpus, tokenizer_config())
    assert documents_of(prepared, "train") == ["\n".join(texts)]
    overlap = overlap_of(prepared[1])
    expected = brute_force(["\n".join(texts)], ["\n".join(texts)], list(corpus.documents("val")))
    assert measured(overlap, expected) == expected
    assert overlap.repeated_lines >= 50
    assert overlap.is_high
    same = corpus_of({"type": "text", "path": str(tmp_path / "a.txt"), "val_path": str(tmp_path / "a.txt")})
    assert overlap_of(prepare(same, tokenizer_config())[1]).equal_documents == 1


def test_lines_that_recur_by_chance_are_no_reason_for_a_warning(tmp_path: Path) -> None:
    common = ["Yes.", "No.", "What is it?"]
    texts = [text for line in lines(400) for text in (line, random.Random(line).choice(common))]
    (tmp_path / "a.txt").write_text("\n".join(texts))
    overlap = overlap_of(prepare(corpus_of({"type": "text", "path": str(tmp_path / "a.txt")}), tokenizer_config())[1])
    assert overlap.repeated_lines >= 35
    assert not overlap.is_high
    assert f"of {overlap.long_lines:,} held-out lines of at least 50 characters" in overlap.describe()


# ---------------------------------------------------------------------- metamorphic


def test_the_order_of_documents_changes_no_count(tmp_path: Path) -> None:
    train, val = lines(200) + lines(30, seed=2), lines(60, seed=2)
    results = []
    for number in range(3):
        rng = random.Random(number)
        rng.shuffle(train)
        rng.shuffle(val)
        corpus = {
            "type": "jsonl",
            "path": write_jsonl(tmp_path / f"train{number}.jsonl", train),
            "val_path": write_jsonl(tmp_path / f"val{number}.jsonl", val),
        }
        store = prepare(corpus_of(corpus), tokenizer_config())[1]
        results.append((overlap_of(store), store.n_bytes))
    assert results[0] == results[1] == results[2]
    assert results[0][0].duplicates >= 30


def test_a_held_out_document_that_occurs_twice_counts_twice() -> None:
    meter = OverlapMeter(HeldOutText(["a b", "a  b", "c", "a b"]), remove=True)
    assert [meter.is_duplicate(document) for document in ("ab", "x", "a b")] == [True, False, True]
    overlap = meter.result()
    assert (overlap.documents, overlap.equal_documents, overlap.similar_documents, overlap.duplicates) == (4, 2, 3, 2)


def test_many_lines_are_sampled_with_bounded_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    val = [f"held-out line number {number} of very many, with a tail" for number in range(20_000)]
    train = val[::4] + [f"training line {number}" for number in range(5000)]
    monkeypatch.setattr(held_out_module, "_MAX_LINES", 2000)
    held_out = HeldOutText(["\n".join(val)])
    assert len(held_out.lines.counts) <= 2000
    meter = OverlapMeter(held_out, remove=True)
    meter.read("\n".join(train))
    overlap = meter.result()
    assert overlap.lines == pytest.approx(20_000, rel=0.1)
    assert overlap.repeated_lines / overlap.lines == pytest.approx(0.25, abs=0.05)


@pytest.mark.parametrize("piece", [1, 3, 1000])
def test_long_documents_are_compared_in_pieces(piece: int, monkeypatch: pytest.MonkeyPatch) -> None:
    document = "über  den\nWolken " * 10
    lines = HeldOutText([document]).lines.counts
    monkeypatch.setattr(file_text, "PIECE_BYTES", piece)
    assert HeldOutText([document]).lines.counts == lines
    for training_text, n_similar in ((" ".join(document.split()), 1), (without_spaces(document)[1:], 0)):
        meter = OverlapMeter(HeldOutText([document]), remove=False)
        meter.read(training_text)
        assert meter.result().similar_documents == n_similar


# ---------------------------------------------------------------------- stores of older versions


def as_old_store(store: TokenStore, n_separator: int) -> Path:
    """Turn the index of a store into that of an older version, whose bytes include the separators."""
    folder = store.folder
    assert folder is not None
    index = json.loads((folder / "index.json").read_text())
    del index["text"], index["checksum"]
    for split, n_bytes in index["n_bytes"].items():
        index["n_bytes"][split] = n_bytes + n_separator * (len(store.spans[split]) - 1)
    (folder / "index.json").write_text(json.dumps(index))
    return folder


@pytest.mark.parametrize(("kind", "n_separator"), [("byte", 0), ("char", 1)])
def test_an_old_store_has_the_bytes_of_its_documents(kind: str, n_separator: int, tmp_path: Path) -> None:
    file = write_jsonl(tmp_path / "a.jsonl", [f"{line}\n" for line in lines(50)])
    corpus = corpus_of({"type": "jsonl", "path": file})
    _, new = prepare(corpus, tokenizer_config(kind))
    folder = as_old_store(new, n_separator)
    opened = open_store(folder)
    assert opened is not None
    assert (opened.n_bytes, opened.fingerprint) == (new.n_bytes, new.fingerprint)
    assert opened.overlap is None
    _, measured_store = prepare(corpus, tokenizer_config(kind))
    assert measured_store.folder == folder
    assert (measured_store.overlap, measured_store.texts) == (new.overlap, new.texts)
    assert measured_store.fingerprint == new.fingerprint
    again = open_store(folder)
    assert again is not None
    assert again.overlap == new.overlap
    assert again.n_bytes == new.n_bytes


def test_an_old_store_with_duplicates_stays_for_old_runs_only(tmp_path: Path) -> None:
    corpus = corpus_with_overlap("two fractions", tmp_path)
    _, whole = prepare(corpus, tokenizer_config(), keep_duplicates=True)
    as_old_store(whole, 0)
    _, clean = prepare(corpus, tokenizer_config())
    assert clean.folder != whole.folder
    assert len(clean.spans["train"]) < len(whole.spans["train"])
    _, kept = prepare(corpus, tokenizer_config(), keep_duplicates=True)
    assert (kept.folder, kept.fingerprint) == (whole.folder, whole.fingerprint)
    assert clean.texts is not None
    assert kept.texts is not None
    assert clean.texts["val"] == kept.texts["val"]
    assert clean.texts["train"] != kept.texts["train"]
