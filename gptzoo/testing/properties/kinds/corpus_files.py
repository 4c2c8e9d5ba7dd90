"""Properties of corpora that read files: every document is in one split, and the fingerprint follows the text."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from gptzoo.data.corpora.files import FileCorpus
from gptzoo.testing.at_size.texts import LONG_TEXTS, RARE_TEXTS, show
from gptzoo.testing.component_under_test import ComponentUnderTest
from gptzoo.testing.properties.kinds.corpora import SPLITS, read_documents
from gptzoo.testing.verdict import Failed, Skipped


def _documents() -> list[str]:
    """Return documents of 1 to some thousand characters, without byte order marks, all different."""
    texts = [f"{index}: " + "word " * (index % 7) for index in range(300)]
    texts += [f"{index} {text}".replace("\ufeff", "") for index, text in enumerate((*RARE_TEXTS, *LONG_TEXTS))]
    return [*texts, "a", "\U0010ffff", "x" * 9000 + "y"]


def check_files(subject: ComponentUnderTest) -> None:
    """Check that the splits together have every document of its files, whole and once, in their order."""
    write, documents = _writer(subject), _documents()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "documents"
        write(path, documents)
        corpus = subject.configure(path=str(path), val_path=None).build()
        splits = {split: read_documents(corpus, split, len(documents) + 1) for split in SPLITS}
        order = {document: index for index, document in enumerate(documents)}
        for split, found in splits.items():
            for document in found:
                if document not in order:
                    raise Failed(f"the {split} split has {show(document)}, which is no document of the files")
            indices = [order[document] for document in found]
            if indices != sorted(set(indices)):
                raise Failed(f"the {split} split has documents twice, or in another order than the files")
        both = [*splits["train"], *splits["val"]]
        if missing := [document for document in documents if document not in set(both)]:
            raise Failed(f"{len(missing)} of {len(documents)} documents are in no split, such as {show(missing[0])}")
        if len(both) != len(documents):
            raise Failed("a document is in both splits")
        separate = subject.configure(path=str(path), val_path=str(path)).build()
        for split in SPLITS:
            if read_documents(separate, split, len(documents) + 1) != list(order):
                raise Failed(f"with val_path, the {split} split does not have all documents of its files")


def check_file_fingerprint(subject: ComponentUnderTest) -> None:
    """Check that files with another text, wherever it changes, have another fingerprint, and copies the same one."""
    write, documents = _writer(subject), _documents()
    with tempfile.TemporaryDirectory() as folder:

        def fingerprint(texts: Sequence[str], name: str) -> str:
            path = Path(folder) / name
            write(path, texts)
            return str(subject.configure(path=str(path)).build().fingerprint())

        original = fingerprint(documents, "original")
        if fingerprint(documents, "copy") != original:
            raise Failed("copies of the files have another fingerprint")
        for number, (change, texts) in enumerate(_changes(documents).items()):
            if fingerprint(texts, f"changed-{number}") == original:
                raise Failed(f"{change} leaves the fingerprint as it was")


def _changes(documents: list[str]) -> dict[str, list[str]]:
    """Return changed documents, by the change."""
    last, middle = len(documents) - 1, len(documents) // 2
    changes = {
        "changing the last character of the last document": [*documents[:-1], documents[-1][:-1] + "z"],
        "another first character": ["#" + documents[0][1:], *documents[1:]],
        "exchanging two documents": [*documents[: last - 1], documents[last], documents[last - 1]],
        "removing a document": documents[:middle] + documents[middle + 1 :],
        "repeating a document": [*documents, documents[middle]],
        "moving a character to the next document": [
            *documents[:middle],
            documents[middle][:-1],
            documents[middle][-1] + documents[middle + 1],
            *documents[middle + 2 :],
        ],
    }
    for index in (middle, last - 30, last):
        text = documents[index]
        swapped = text[: len(text) // 2] + "~" + text[len(text) // 2 + 1 :]
        changes[f"changing a character in the middle of document {index}"] = [
            *documents[:index],
            swapped,
            *documents[index + 1 :],
        ]
    return changes


Writer = Callable[[Path, Sequence[str]], None]


def _writer(subject: ComponentUnderTest) -> Writer:
    """Return the function that writes documents in the format of the corpus under test. Raises Skipped."""
    if not issubclass(subject.component, FileCorpus):
        raise Skipped("it does not read files, or not as a FileCorpus does")
    suffix = subject.component.suffix
    if suffix == ".txt":
        return _write_text_files
    option = {".jsonl": "field", ".parquet": "column"}.get(suffix)
    key = getattr(subject.config, option or "", None)
    if key is None:
        raise Skipped(f"the kit cannot write {suffix or 'such'} files")
    return partial(_write_json_lines if suffix == ".jsonl" else _write_parquet, key=key)


def _write_text_files(folder: Path, documents: Sequence[str]) -> None:
    folder.mkdir()
    for index, document in enumerate(documents):
        (folder / f"{index:06d}.txt").write_bytes(document.encode("utf-8"))


def _write_json_lines(file: Path, documents: Sequence[str], key: str) -> None:
    lines = (json.dumps({key: text}, ensure_ascii=len(text) % 2 == 0) for text in documents)
    file.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8", newline="\n")


def _write_parquet(file: Path, documents: Sequence[str], key: str) -> None:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise Skipped("writing Parquet files needs the package `pyarrow`") from None
    pyarrow.parquet.write_table(pyarrow.table({key: list(documents)}), file)
