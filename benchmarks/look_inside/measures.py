"""Attention sinks, previous-token heads, induction heads, and the logit lens of a model, as JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from gptzoo.checkpoint.model_folder import LoadedModel
from gptzoo.inspection.attention import attention_maps
from gptzoo.inspection.capture import capture
from gptzoo.inspection.lens import logit_lens

TEXTS = (
    # Lewis Carroll, Alice's Adventures in Wonderland; Herman Melville, Moby-Dick; Jane Austen, Pride and Prejudice.
    "Alice was beginning to get very tired of sitting by her sister on the bank, and of having nothing to do: once or "
    "twice she had peeped into the book her sister was reading, but it had no pictures or conversations in it.",
    "Call me Ishmael. Some years ago, never mind how long precisely, having little or no money in my purse, and "
    "nothing particular to interest me on shore, I thought I would sail about a little and see the watery part of "
    "the world.",
    "It is a truth universally acknowledged, that a single man in possession of a good fortune, must be in want of a "
    "wife. However little known the feelings or views of such a man may be on his first entering a neighbourhood, this "
    "truth is so well fixed in the minds of the surrounding families.",
)
REPEATED_TEXT = "Zora met Quill. Later Zora met Quill again."
PROMPT = "The capital of {} is"
CAPITALS = {
    "Italy": "Rome", "Austria": "Vienna", "China": "Beijing", "Cuba": "Havana", "Egypt": "Cairo", "England": "London",
    "France": "Paris", "Germany": "Berlin", "Greece": "Athens", "Hungary": "Budapest", "Iran": "Tehran",
    "Ireland": "Dublin", "Japan": "Tokyo", "Kenya": "Nairobi", "Norway": "Oslo", "Peru": "Lima", "Poland": "Warsaw",
    "Portugal": "Lisbon", "Russia": "Moscow", "Spain": "Madrid",
}  # fmt: skip
N_RANDOM_SEQUENCES = 8
RANDOM_LENGTH = 40  # tokens, each sequence is repeated once
N_DIGITS = 4


def measure(loaded: LoadedModel, texts: Sequence[str], capitals: Mapping[str, str]) -> dict[str, Any]:
    """Return all measurements of a model.

    texts: each at least four tokens long and at most as long as the model's context.
    capitals: right answers by country. The first one is shown layer by layer.
    """
    encoded = [list(loaded.tokenizer.encode(text)) for text in texts]
    if short := [text for text, ids in zip(texts, encoded, strict=True) if len(ids) < 4]:
        raise SystemExit(f"the text {short[0]!r} has fewer than four tokens")
    first = next(iter(capitals))
    prompt, answer = PROMPT.format(first), f" {capitals[first]}"
    shortened = torch.tensor(mean_weights(loaded, [ids[1:] for ids in encoded])["first_token"])
    return {
        "model": loaded.name,
        "n_tokens": [len(ids) for ids in encoded],
        "layers": [attention_map.path for attention_map in attention_maps(loaded, encoded[0]).maps],
        "heads": {**mean_weights(loaded, encoded), "induction": induction(loaded)},
        "first_token_when_it_is_the_second_of_the_text": _rounded(shortened.mean()),
        "norms": norms(loaded, encoded),
        "lens": {"prompt": prompt, "answer": answer, "rows": lens_rows(loaded, prompt, answer)},
        "ranks": {country: ranks(loaded, PROMPT.format(country), f" {answer}") for country, answer in capitals.items()},
    }


def mean_weights(loaded: LoadedModel, texts: Sequence[Sequence[int]]) -> dict[str, list[list[float]]]:
    """Return the mean attention weights (L, H) of each head on the first token, and on the token before the query.

    The first two queries are left out: the token before them is the first one, or there is none.
    """
    first, previous = [], []
    for ids in texts:
        weights = _weights(loaded, ids)  # (L, H, T, T)
        first.append(weights[:, :, 2:, 0].mean(-1))
        previous.append(weights.diagonal(-1, -2, -1)[..., 1:].mean(-1))
    return {
        "first_token": _rounded(torch.stack(first).mean(0)),
        "previous_token": _rounded(torch.stack(previous).mean(0)),
    }


def induction(loaded: LoadedModel) -> list[list[float]]:
    """Return the mean weight (L, H) on the token that followed the query's token at its first occurrence.

    Each sequence is a row of random tokens, twice (Olsson et al. 2022, In-context Learning and Induction Heads,
    arXiv:2209.11895).
    """
    generator, n = torch.Generator().manual_seed(0), RANDOM_LENGTH
    means = []
    for _ in range(N_RANDOM_SEQUENCES):
        ids = torch.randint(loaded.tokenizer.vocab_size, (n,), generator=generator).tolist()
        weights = _weights(loaded, ids + ids)
        means.append(weights.diagonal(1 - n, -2, -1)[..., 1:].mean(-1))  # query n + i, key i + 1
    return _rounded(torch.stack(means).mean(0))


def norms(loaded: LoadedModel, texts: Sequence[Sequence[int]]) -> dict[str, list[float]]:
    """Return the norm of the residual stream before the first block and after each block.

    `first` is that of the first token, and `others` the median of all other tokens, both as means over the texts.
    """
    first, others = [], []
    for ids in texts:
        stream = torch.stack([x[0].float().norm(dim=-1) for x in capture(loaded.model, ids, "residual").values()])
        first.append(stream[:, 0])
        others.append(stream[:, 1:].median(-1).values)
    return {"first": _rounded(torch.stack(first).mean(0)), "others": _rounded(torch.stack(others).mean(0))}


def lens_rows(loaded: LoadedModel, prompt: str, answer: str) -> list[dict[str, Any]]:
    """Return what the logit lens predicts after a prompt, by layer: the top token, and the rank of the answer from 1.

    An answer of several tokens is represented by its first one.
    """
    target = loaded.tokenizer.encode(answer)[0]
    lens = logit_lens(loaded, list(loaded.tokenizer.encode(prompt)), n_best=loaded.spec.vocab_size)
    rows = []
    for layer, ids, probabilities in zip(lens.layers, lens.ids[:, -1], lens.probabilities[:, -1], strict=True):
        place = int((ids == target).nonzero())
        rows.append(
            {
                "layer": layer,
                "top": lens.labels[int(ids[0])],
                "top_probability": _rounded(probabilities[0]),
                "probability": _rounded(probabilities[place]),
                "rank": place + 1,
            }
        )
    return rows


def ranks(loaded: LoadedModel, prompt: str, answer: str) -> list[int]:
    """Return the rank of the first token of an answer by layer, from 1, as `lens_rows` does."""
    ids = [*loaded.tokenizer.encode(prompt), loaded.tokenizer.encode(answer)[0]]
    found: list[int] = (logit_lens(loaded, ids, n_best=1).rank[:, -1] + 1).tolist()
    return found


def _weights(loaded: LoadedModel, ids: Sequence[int]) -> Tensor:
    """Return the attention weights (L, H, T, T) of the layers that have scores."""
    return torch.stack([attention_map.weights for attention_map in attention_maps(loaded, ids).maps])


def _rounded(values: Tensor) -> Any:
    if values.ndim > 0:
        return [_rounded(row) for row in values]
    return float(f"{float(values):.{N_DIGITS}g}")
