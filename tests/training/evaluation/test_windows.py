"""Sliding windows compared with a slow reference, with the full pass and with the recipe of `transformers`."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
import torch

import gptzoo
from gptzoo.checkpoint.model_folder import save_model
from gptzoo.component import Config
from gptzoo.interop.hugging_face import import_folder
from gptzoo.reference import Reference
from gptzoo.training.evaluation.evaluate import evaluate
from gptzoo.training.evaluation.full_pass import MAX_TOKENS_PER_BATCH
from gptzoo.training.evaluation.protocols import SlidingWindows


def text_corpus(n_bytes: int, folder: Path) -> Config:
    """Write a random text as the held-out text of a corpus."""
    file = folder / "text.txt"
    file.write_text("".join(random.Random(n_bytes).choice("abc def") for _ in range(n_bytes)))
    config: Config = Reference("corpus").validate({"type": "text", "path": str(file), "val_path": str(file)})
    return config


def trained_model(folder: Path, *, positional: str = "learned", length: int = 16) -> Path:
    """Save a small model with random weights, large enough that context matters."""
    spec = {"d_model": 16, "n_layers": 2, "n_heads": 2, "context_length": length, "vocab_size": 257}
    model = gptzoo.build({**spec, "positional": positional}, seed=3).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(
                0.3 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(parameter.numel()))
            )
    save_model(folder, model, Reference("tokenizer").validate("byte").build())
    return folder


def slow_nats(model: Any, ids: list[int], window: int, stride: int) -> list[float]:
    """Score each token but the first by a forward pass of its own, from the context that the definition gives it."""
    nats = []
    for position in range(1, len(ids)):
        start = 0
        while position > start + window:  # the first window that reaches the token
            start += stride
        logits, _ = model(torch.tensor([ids[start:position]]))
        nats.append(-logits[0, -1].log_softmax(-1)[ids[position]].item())
        assert start == 0 or position - start > window - stride
    return nats


@pytest.mark.parametrize(("window", "stride"), [(16, 16), (16, 4), (16, 1), (7, 3), (5, 5), (1, 1), (16, 15)])
@pytest.mark.parametrize("n_bytes", [2, 3, 16, 17, 18, 50])
def test_sliding_windows_equal_a_slow_reference(window: int, stride: int, n_bytes: int, tmp_path: Path) -> None:
    folder = trained_model(tmp_path / "model")
    text = "".join(random.Random(n_bytes).choice("abc def") for _ in range(n_bytes))
    (tmp_path / "text.txt").write_text(text)
    corpus = Reference("corpus").validate(
        {"type": "text", "path": str(tmp_path / "text.txt"), "val_path": str(tmp_path / "text.txt")}
    )
    result = evaluate(folder, corpus, protocol=SlidingWindows(window, stride))
    model = gptzoo.load(folder).model.eval()
    with torch.no_grad():
        nats = slow_nats(model, list(text.encode()), window, stride)
    assert result.likelihood.n_tokens == n_bytes - 1
    assert result.likelihood.nats == pytest.approx(sum(nats), rel=1e-5)
    assert (result.window, result.stride) == (window, stride)
    assert json.loads(json.dumps(result.as_dict()))["window"] == window


def test_windows_as_long_as_the_context_are_the_full_pass(tmp_path: Path) -> None:
    folder, corpus = trained_model(tmp_path / "model"), text_corpus(440, tmp_path)
    full, windows = evaluate(folder, corpus), evaluate(folder, corpus, protocol=SlidingWindows())
    assert windows.likelihood.loss == pytest.approx(full.likelihood.loss, rel=1e-6)
    assert windows.likelihood.n_tokens == full.likelihood.n_tokens
    assert (windows.window, windows.stride) == (full.window, full.stride) == (16, 16)


def test_a_window_beyond_the_context_needs_a_model_without_a_limit(tmp_path: Path) -> None:
    corpus = text_corpus(110, tmp_path)
    rotary = trained_model(tmp_path / "rotary", positional="rope")
    assert evaluate(rotary, corpus, protocol=SlidingWindows(40, 20)).window == 40
    with pytest.raises(gptzoo.InputError, match="window: 17 tokens are too long: this model has 16 positions"):
        evaluate(trained_model(tmp_path / "learned"), corpus, protocol=SlidingWindows(17))
    for stride in (0, 17):
        with pytest.raises(gptzoo.InputError, match=f"stride: expected 1 to 16 tokens.*got {stride}"):
            evaluate(rotary, corpus, protocol=SlidingWindows(16, stride))
    packed = Reference("batching").validate("packed")
    with pytest.raises(gptzoo.InputError, match="this batching provides documents"):
        evaluate(rotary, corpus, protocol=SlidingWindows(16, 8), batching=packed)


@pytest.mark.parametrize("size", [1, 16, 100, MAX_TOKENS_PER_BATCH])
def test_sliding_windows_do_not_depend_on_the_batch_size(
    size: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, corpus = trained_model(tmp_path / "model"), text_corpus(220, tmp_path)
    expected = evaluate(folder, corpus, protocol=SlidingWindows(16, 5)).likelihood
    monkeypatch.setattr("gptzoo.training.evaluation.evaluate.MAX_TOKENS_PER_BATCH", size)
    actual = evaluate(folder, corpus, protocol=SlidingWindows(16, 5)).likelihood
    assert actual.nats == pytest.approx(expected.nats, rel=1e-6)
    assert actual.n_tokens == expected.n_tokens


@pytest.mark.parametrize(("max_length", "stride"), [(16, 4), (17, 8), (9, 8)])
def test_sliding_windows_are_the_recipe_of_transformers(max_length: int, stride: int, tmp_path: Path) -> None:
    """The loop of its page "Perplexity of fixed-length models", with the sum of the losses instead of their mean."""
    transformers = pytest.importorskip("transformers")
    config = transformers.GPT2Config(vocab_size=257, n_positions=17, n_embd=16, n_layer=2, n_head=2)
    torch.manual_seed(1)
    theirs = transformers.GPT2LMHeadModel(config).eval()
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    theirs.save_pretrained(tmp_path / "hf")
    import_folder(tmp_path / "hf", tmp_path / "imported")
    imported = gptzoo.load(tmp_path / "imported").model
    save_model(tmp_path / "model", imported, Reference("tokenizer").validate("byte").build())
    text = "".join(random.Random(2).choice("abc def") for _ in range(100))
    (tmp_path / "text.txt").write_text(text)
    ids = torch.tensor([list(text.encode())])

    nats, n_tokens, previous_end = 0.0, 0, 0
    for begin in range(0, ids.shape[1], stride):
        end = min(begin + max_length, ids.shape[1])
        targets = ids[:, begin:end].clone()
        targets[:, : -(end - previous_end)] = -100
        n_targets = int((targets[:, 1:] != -100).sum())
        with torch.no_grad():
            nats += theirs(ids[:, begin:end], labels=targets).loss.item() * n_targets
        n_tokens += n_targets
        previous_end = end
        if end == ids.shape[1]:
            break

    corpus = {"type": "text", "path": str(tmp_path / "text.txt"), "val_path": str(tmp_path / "text.txt")}
    protocol = SlidingWindows(max_length - 1, stride)
    result = evaluate(tmp_path / "model", Reference("corpus").validate(corpus), protocol=protocol).likelihood
    assert result.n_tokens == n_tokens == len(text) - 1
    assert result.nats == pytest.approx(nats, rel=1e-5)
