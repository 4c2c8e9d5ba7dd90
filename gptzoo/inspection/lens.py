"""The logit lens: the next-token predictions of a model's intermediate layers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from gptzoo.checkpoint.model_folder import LoadedModel
from gptzoo.errors import InputError, LogitsError
from gptzoo.inspection.capture import capture
from gptzoo.inspection.labels import token_labels
from gptzoo.sampling.text import tokenizer_of
from gptzoo.utils.bad_logits import CHECK_WEIGHTS, are_bad, describe_bad_logits


@dataclass(frozen=True)
class LogitLens:
    """The top next tokens by layer and position.

    Row 0 is the input of the first block, and row i the output of block i - 1. The last row is the model's own
    prediction.
    """

    tokens: tuple[str, ...]  # printable labels of the input tokens
    layers: tuple[str, ...]  # names of the rows, such as "in" and "blocks.0"
    ids: Tensor  # (L, T, K) int64, the most likely token first
    probabilities: Tensor  # (L, T, K)
    labels: dict[int, str]  # printable labels of all tokens in `ids`
    entropy: Tensor  # (L, T), in nats
    rank: Tensor  # (L, T - 1) int64, rank of the actual next token; 0 is the most likely


@torch.inference_mode()
def logit_lens(loaded: LoadedModel, ids: Sequence[int], n_best: int = 5) -> LogitLens:
    """Apply the model's readout to the residual stream after each layer (nostalgebraist 2020, interpreting GPT).

    Raises InputError if the architecture does not capture "residual" or does not implement `readout`, and LogitsError
    for logits that have no probabilities.
    """
    model, tokenizer = loaded.model, tokenizer_of(loaded)
    captures = capture(model, ids, "residual")
    names = [name for name in captures if name == "residual" or _is_decoder_block(name)]
    if not names:
        raise InputError('the logit lens needs the residual stream: the architecture does not capture "residual"')
    rows = []
    for name in names:
        logits = model.readout(captures[name])[0].float().cpu()
        _check_logits(logits, name, token_labels(tokenizer, ids)[-len(logits) :])
        rows.append(_row(logits, ids, min(n_best, model.spec.dims.vocab_size)))
    best, probabilities, entropy, rank = (torch.stack(column) for column in zip(*rows, strict=True))
    distinct_ids = sorted(set(best.flatten().tolist()))
    n_positions = best.shape[1]
    return LogitLens(
        tokens=token_labels(tokenizer, ids)[-n_positions:],  # An encoder reads the first tokens of an encoder-decoder.
        layers=tuple("in" if name == "residual" else name.removesuffix(".residual") for name in names),
        ids=best,
        probabilities=probabilities,
        labels=dict(zip(distinct_ids, token_labels(tokenizer, distinct_ids), strict=True)),
        entropy=entropy,
        rank=rank,
    )


def _check_logits(logits: Tensor, layer: str, labels: Sequence[str]) -> None:
    """Raise LogitsError if a row of the logits (T, V) after a layer has no probabilities."""
    if bool(are_bad(logits).any()):
        position = int(are_bad(logits).nonzero()[0])
        place = "before the first block" if layer == "residual" else f"after {layer.removesuffix('.residual')}"
        raise LogitsError(
            f"there are no predictions: the logits {place}, at token {position + 1} ({labels[position]!r}), have "
            f"{describe_bad_logits(logits[position])}. {CHECK_WEIGHTS}"
        )


def _is_decoder_block(name: str) -> bool:
    first, *_, last = name.split(".")
    return (first, last) == ("blocks", "residual")


def _row(logits: Tensor, ids: Sequence[int], n_best: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Map logits (T, V) to top ids and probabilities (T, K), entropy (T,), and the rank of the next token (T - 1,)."""
    probabilities = logits.softmax(-1)
    best = probabilities.topk(n_best, dim=-1)
    next_ids = torch.tensor(list(ids)[len(ids) - len(logits) + 1 :], dtype=torch.int64)[:, None]  # (T - 1, 1)
    rank = (logits[:-1] > logits[:-1].gather(-1, next_ids)).sum(-1)
    return best.indices, best.values, torch.special.entr(probabilities).sum(-1), rank
