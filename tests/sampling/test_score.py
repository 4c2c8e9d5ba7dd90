"""Scores of given texts: they equal the model's loss, whatever the number and the length of the rows."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch

import gptzoo
from gptzoo.checkpoint.model_folder import LoadedModel
from gptzoo.errors import InputError
from gptzoo.reference import Reference
from gptzoo.sampling import score as scoring
from gptzoo.sampling.score import score, score_text, score_with_greedy

BASE: dict[str, Any] = {"vocab_size": 257, "context_length": 16, "d_model": 32, "n_layers": 2, "n_heads": 4}


def build_model(**fields: Any) -> Any:
    spec = {**BASE, "architecture": {"type": "decoder", "init_std": 0.3}, "positional": "rope", **fields}
    return gptzoo.build(spec, seed=3).eval()


def random_rows(*lengths: int) -> list[list[int]]:
    generator = torch.Generator().manual_seed(5)
    return [torch.randint(257, (length,), generator=generator).tolist() for length in lengths]


def loaded(model: Any, type: str = "byte", state: Any = None) -> LoadedModel:
    config = Reference("tokenizer").validate(type)
    return LoadedModel(model, config.build(state), Path("here"))


def score_by_full_forward(model: Any, row: list[int]) -> torch.Tensor:
    with torch.inference_mode():
        logits = model(torch.tensor([row]))[0][0, :-1]
    return logits.log_softmax(-1).gather(-1, torch.tensor(row[1:])[:, None])[:, 0]


@pytest.mark.parametrize("attention", gptzoo.registered("attention"))
@pytest.mark.parametrize("positional", ["learned", "rope", "sinusoidal", "none"])
def test_scores_are_those_of_a_full_forward_pass_and_average_to_the_loss(attention: str, positional: str) -> None:
    model, rows = build_model(attention=attention, positional=positional), random_rows(16, 2, 9, 17)
    if positional == "learned":
        rows = rows[:3]
    for row, scored in zip(rows, score(model, rows), strict=True):
        torch.testing.assert_close(scored, score_by_full_forward(model, row), atol=1e-4, rtol=1e-4)
        tokens = torch.tensor([row])
        with torch.inference_mode():
            _, loss = model(tokens[:, :-1], tokens[:, 1:])
        assert -scored.mean().item() == pytest.approx(loss.item(), abs=1e-5)


@pytest.mark.parametrize("attention", ["sdpa", {"type": "sdpa", "window": 5}])
def test_rows_longer_than_the_context_are_read_in_chunks_with_the_same_result(attention: Any) -> None:
    model, rows = build_model(attention=attention), random_rows(50, 3, 33)
    for row, scored in zip(rows, score(model, rows), strict=True):
        torch.testing.assert_close(scored, score_by_full_forward(model, row), atol=1e-4, rtol=1e-4)


def test_a_row_scores_the_same_alone_and_in_a_batch() -> None:
    model, rows = build_model(), random_rows(5, 16, 1, 0, 40, 2, 16)
    together = score(model, rows)
    assert [len(scored) for scored in together] == [4, 15, 0, 0, 39, 1, 15]
    for row, scored in zip(rows, together, strict=True):
        torch.testing.assert_close(score(model, [row])[0], scored, atol=1e-5, rtol=1e-5)


def test_the_number_of_logits_per_forward_pass_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    model, rows, n_logits = build_model(), random_rows(*[16] * 10, 60), []
    expected = score(model, rows)
    model.head.register_forward_hook(lambda *call: n_logits.append(call[2].numel()))
    monkeypatch.setattr(scoring, "_MAX_LOGITS", 4 * 16 * 257)
    for scored, same in zip(score(model, rows), expected, strict=True):
        torch.testing.assert_close(scored, same, atol=1e-5, rtol=1e-5)
    assert max(n_logits) <= 4 * 16 * 257
    assert sum(n_logits) >= sum(len(row) - 1 for row in rows) * 257


def test_a_uniform_model_needs_log2_of_the_vocabulary_size_in_bits_per_token() -> None:
    model = build_model()
    with torch.no_grad():
        model.embed.weight.zero_()
    result = score_text(loaded(model), "naïve café, " * 9)
    n_bytes = len(("naïve café, " * 9).encode())
    assert (result.n_tokens, result.n_bytes) == (n_bytes, n_bytes)
    assert result.perplexity == pytest.approx(257, rel=1e-4)
    assert result.bits_per_byte == pytest.approx(math.log2(257), rel=1e-5)


def test_the_score_of_a_text_is_the_loss_over_its_windows() -> None:
    model, text = build_model(positional="learned"), "To be, or not to be, that is the question." * 3
    ids = torch.tensor([256, *text.encode()])
    nats, n_tokens = 0.0, len(ids) - 1
    with torch.inference_mode():
        for start in range(0, n_tokens, 16):
            window = ids[None, start : start + 17]
            nats += model(window[:, :-1], window[:, 1:])[1].item() * (window.shape[1] - 1)
    result = score_text(loaded(model), text)
    assert result.nats == pytest.approx(nats, rel=1e-5)
    assert result.loss == pytest.approx(nats / n_tokens, rel=1e-5)
    assert result.perplexity == pytest.approx(math.exp(nats / n_tokens), rel=1e-4)
    assert result.bits_per_byte == pytest.approx(nats / n_tokens / math.log(2), rel=1e-5)  # a token is a byte here


def test_without_an_end_of_text_token_the_first_token_is_not_predicted() -> None:
    model = build_model(vocab_size=4)
    result = score_text(loaded(model, "char", "abéß"), "éabßa")
    assert (result.n_tokens, result.n_bytes) == (4, 5)
    assert result.nats == pytest.approx(-score_by_full_forward(model, [2, 0, 1, 3, 0]).sum().item(), rel=1e-4)


def test_rows_that_cannot_be_scored_are_rejected() -> None:
    with pytest.raises(InputError, match=r"a row of 18 tokens is too long: this model has 16 positions"):
        score(build_model(positional="learned"), random_rows(3, 18))
    with pytest.raises(InputError, match="token id 257 is outside the model's vocabulary of 257"):
        score(build_model(), [[1, 257]])
    with pytest.raises(InputError, match="nothing to score"):
        score_text(loaded(build_model()), "")
    with pytest.raises(InputError, match="nothing to score"):
        score_text(loaded(build_model(vocab_size=2), "char", "ab"), "a")
    with pytest.raises(InputError, match="no tokenizer"):
        score_text(LoadedModel(build_model(), None, Path("here")), "abc")
    assert score(build_model(), []) == []


def test_greedy_tokens_are_those_with_the_greatest_logits() -> None:
    model = build_model()
    first, *others = random_rows(9, 4, 1, 40)  # the last one is read in chunks
    with torch.inference_mode():
        continued = [*first, int(model(torch.tensor([first]))[0][0, -1].argmax())]
    rows = [*others, first, continued]
    scores = score_with_greedy(model, rows)
    for row, scored in zip(rows, scores, strict=True):
        with torch.inference_mode():
            logits = model(torch.tensor([row]))[0][0, :-1]
        assert scored.is_greedy.tolist() == (logits.argmax(-1) == torch.tensor(row[1:])).tolist()
    assert scores[-1].is_greedy[-1]
