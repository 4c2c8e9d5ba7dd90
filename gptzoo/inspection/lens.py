"""The logit lens: what the model would say next, were it to end after each of its layers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from gptzoo.checkpoint.model_folder import Loaded
from gptzoo.errors import InputError
from gptzoo.inspection.capture import captured
from gptzoo.inspection.labels import labels_of
from gptzoo.sampling.text import tokenizer_of


@dataclass(frozen=True)
class Lens:
    """The likeliest next tokens by layer and position. Row 0 is what comes into the first block, row i what comes out
    of block i - 1; so the last row is the model's own prediction."""

    tokens: tuple[str, ...]  # of the text, fit to be shown
    layers: tuple[str, ...]  # names of the rows, such as "in" and "blocks.0"
    ids: Tensor  # (L, T, K) int64, the best first
    probabilities: Tensor  # (L, T, K)
    labels: dict[int, str]  # of all of `ids`
    entropy: Tensor  # (L, T), in nats
    rank: Tensor  # (L, T - 1) int64, of the token that does come next; 0 is the likeliest


@torch.inference_mode()
def logit_lens(loaded: Loaded, ids: Sequence[int], n_best: int = 5) -> Lens:
    """What each layer would say after each token of a text (nostalgebraist 2020, interpreting GPT: the logit lens).

    Raises InputError for an architecture that captures no "residual" or has no `readout`.
    """
    model, tokenizer = loaded.model, tokenizer_of(loaded)
    seen = captured(model, ids, "residual")
    names = [name for name in seen if name == "residual" or _is_of_own_block(name)]
    if not names:
        raise InputError('the logit lens needs the residual stream: the architecture does not capture "residual"')
    rows = [_row(model.readout(seen[name])[0], ids, min(n_best, model.spec.dims.vocab_size)) for name in names]
    best, probabilities, entropy, rank = (torch.stack(each) for each in zip(*rows, strict=True))
    known = best.unique().tolist()
    n_read = best.shape[1]
    return Lens(
        tokens=labels_of(tokenizer, ids)[-n_read:],  # an encoder-decoder reads the rest elsewhere
        layers=tuple("in" if name == "residual" else name.removesuffix(".residual") for name in names),
        ids=best,
        probabilities=probabilities,
        labels=dict(zip(known, labels_of(tokenizer, known), strict=True)),
        entropy=entropy,
        rank=rank,
    )


def _is_of_own_block(name: str) -> bool:
    first, *_, last = name.split(".")
    return (first, last) == ("blocks", "residual")


def _row(logits: Tensor, ids: Sequence[int], n_best: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """(T, V) -> ids and probabilities (T, K), entropy (T,), and the rank of the next token (T - 1,)."""
    logits = logits.float().cpu()
    probabilities = logits.softmax(-1)
    best = probabilities.topk(n_best, dim=-1)
    following = torch.tensor(list(ids)[len(ids) - len(logits) + 1 :], dtype=torch.int64)[:, None]  # (T - 1, 1)
    rank = (logits[:-1] > logits[:-1].gather(-1, following)).sum(-1)
    return best.indices, best.values, torch.special.entr(probabilities).sum(-1), rank
