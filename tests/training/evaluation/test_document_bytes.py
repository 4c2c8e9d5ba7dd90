"""Bits per byte of models with all weights zero, whose loss per token is known in closed form."""

from __future__ import annotations

import json
import math
import random
from pathlib import Path
from typing import Any

import pytest
import torch
from support import needs_tiktoken_files

import gptzoo
from gptzoo.checkpoint.model_folder import save_model
from gptzoo.component import Config
from gptzoo.data.prepare import prepare
from gptzoo.reference import Reference
from gptzoo.training.evaluation.evaluate import Evaluation, RandomBatches, evaluate

rng = random.Random(5)
DOCUMENTS = ["".join(rng.choice("abcdefgh\n") for _ in range(10)) for _ in range(600)]
N_BYTES = sum(len(document.encode()) for document in DOCUMENTS)
BPE = {"type": "bpe", "vocab_size": 300}


def corpus_of(documents: list[str], folder: Path, form: str = "jsonl") -> Config:
    """Write documents as the held-out text of a corpus, with other text to train on, and return the corpus."""
    folder.mkdir(parents=True, exist_ok=True)
    train = "".join(sorted({*"abcdefgh\n", *"".join(documents)})) * 200
    value: dict[str, Any]
    if form == "text":
        for split, texts in (("train", [train]), ("val", documents)):
            (folder / split).mkdir()
            for number, text in enumerate(texts):
                (folder / split / f"{number:05}.txt").write_bytes(text.encode())
        value = {"type": "text", "path": str(folder / "train"), "val_path": str(folder / "val")}
    elif form == "parquet":
        arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
        for split, texts in (("train", [train]), ("val", documents)):
            parquet.write_table(arrow.table({"text": texts}), folder / f"{split}.parquet")
        value = {"type": "parquet", "path": str(folder / "train.parquet"), "val_path": str(folder / "val.parquet")}
    else:
        for split, texts in (("train", [train]), ("val", documents)):
            lines = [json.dumps({"text": text}) + "\n" for text in texts]
            (folder / f"{split}.jsonl").write_text("".join(lines))
        value = {"type": "jsonl", "path": str(folder / "train.jsonl"), "val_path": str(folder / "val.jsonl")}
        if form == "mixture":
            value = {"type": "mixture", "parts": [{"corpus": value, "weight": 2.0}]}
        if form == "train_val":
            value = {"type": "train_val", "train": value, "val": value}
    config: Config = Reference("corpus").validate(value)
    return config


def blank_model(tokenizer: Any, corpus: Config, folder: Path, **options: Any) -> Path:
    """Save a model whose weights are all zero, so that every token costs log2 of the vocabulary size."""
    fitted, _ = prepare(corpus.build(), Reference("tokenizer").validate(tokenizer))
    size = fitted.vocab_size
    spec = {"d_model": 8, "n_layers": 1, "n_heads": 1, "context_length": 32, "vocab_size": size, **options}
    model = gptzoo.build(spec)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    save_model(folder, model, fitted)
    return folder


def expected_bits(evaluation: Evaluation, folder: Path, n_bytes: int) -> float:
    size = json.loads((folder / "model.json").read_text())["vocab_size"]
    return math.log2(size) * evaluation.likelihood.n_tokens / n_bytes


@pytest.mark.parametrize("form", ["jsonl", "parquet", "text", "mixture", "train_val"])
@pytest.mark.parametrize(
    "tokenizer",
    ["byte", "char", BPE, pytest.param({"type": "tiktoken", "name": "gpt2"}, marks=needs_tiktoken_files)],
    ids=str,
)
def test_bits_per_byte_count_the_bytes_of_the_documents(tokenizer: Any, form: str, tmp_path: Path) -> None:
    corpus = corpus_of(DOCUMENTS, tmp_path / "data", form)
    model = blank_model(tokenizer, corpus, tmp_path / "model")
    result = evaluate(model, corpus)
    assert result.likelihood.n_bytes == N_BYTES
    assert result.likelihood.bits_per_byte == pytest.approx(expected_bits(result, model, N_BYTES), rel=1e-5)
    if tokenizer in ("byte", "char"):  # one token for each character, and one for each of the separators
        assert result.likelihood.n_tokens == N_BYTES + len(DOCUMENTS) - 2


def test_equal_models_of_bytes_and_of_characters_differ_by_their_vocabularies_only(tmp_path: Path) -> None:
    """A newline between documents is no text: 11 tokens for 10 bytes, with and without an end token."""
    corpus = corpus_of(DOCUMENTS, tmp_path / "data")
    bits = {}
    for tokenizer in ("byte", "char"):
        bits[tokenizer] = evaluate(blank_model(tokenizer, corpus, tmp_path / tokenizer), corpus).likelihood
    assert bits["byte"].n_tokens == bits["char"].n_tokens
    assert bits["byte"].n_bytes == bits["char"].n_bytes
    ratio = bits["byte"].bits_per_byte / bits["char"].bits_per_byte
    assert ratio == pytest.approx(math.log2(257) / math.log2(9), rel=1e-6)


@pytest.mark.parametrize("tokenizer", ["byte", "char"])
def test_random_batches_count_the_bytes_of_documents(tokenizer: str, tmp_path: Path) -> None:
    corpus = corpus_of(DOCUMENTS, tmp_path / "data")
    model = blank_model(tokenizer, corpus, tmp_path / "model")
    result = evaluate(model, corpus, protocol=RandomBatches(batches=20, batch_size=20)).likelihood
    assert result.n_bytes == pytest.approx(result.n_tokens * 10 / 11, rel=2e-3)  # one token in eleven is a separator
    small = evaluate(model, corpus, protocol=RandomBatches(batches=1, batch_size=1, seed=3)).likelihood
    ids = [token for document in DOCUMENTS for token in [-1, *document.encode()]][1:]
    possible = {sum(token >= 0 for token in ids[start : start + 32]) for start in range(1, len(ids) - 32)}
    assert small.n_bytes in possible


def test_the_text_of_a_split_has_the_same_digest_for_every_tokenizer_and_form(tmp_path: Path) -> None:
    digests = set()
    for number, (tokenizer, form) in enumerate((("byte", "jsonl"), ("char", "text"), (BPE, "mixture"))):
        corpus = corpus_of(DOCUMENTS, tmp_path / f"data{number}", form)
        digests.add(evaluate(blank_model(tokenizer, corpus, tmp_path / f"m{number}"), corpus).text)
    assert len(digests) == 1
    assert None not in digests
    for number, other in enumerate((DOCUMENTS[::-1], [*DOCUMENTS, "a"], ["".join(DOCUMENTS)], DOCUMENTS[1:])):
        corpus = corpus_of(other, tmp_path / f"other{number}")
        digests.add(evaluate(tmp_path / "m0", corpus).text)
    assert len(digests) == 5


def test_a_duplicated_document_and_a_split_corpus_change_the_sums_as_stated(tmp_path: Path) -> None:
    """The nats of a zero model are proportional to its tokens: all predicted ones, with those between documents."""
    first, second = DOCUMENTS[:250], DOCUMENTS[250:]
    corpus = corpus_of(DOCUMENTS, tmp_path / "all")
    model = blank_model("char", corpus, tmp_path / "model")
    whole, a, b = (
        evaluate(model, corpus_of(documents, tmp_path / str(len(documents)))).likelihood
        for documents in (DOCUMENTS, first, second)
    )
    assert whole.n_bytes == a.n_bytes + b.n_bytes
    assert whole.n_tokens == a.n_tokens + b.n_tokens + 2  # the first token of the second part, and a separator
    assert whole.nats == pytest.approx(a.nats + b.nats + 2 * math.log(9), rel=1e-6)
    repeated = evaluate(model, corpus_of([*DOCUMENTS, DOCUMENTS[0]], tmp_path / "repeated")).likelihood
    assert repeated.n_bytes == whole.n_bytes + 10
    assert repeated.n_tokens == whole.n_tokens + 11
