"""Beam search: the likeliest texts that can be found by keeping a few at a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from gptzoo.components.base import Architecture
from gptzoo.sampling.states import take_rows


@dataclass(frozen=True)
class Beam:
    """A text that was found."""

    tokens: tuple[int, ...]  # new ones; the stop token that ended it is not among them
    log_probability: float  # of all of them, and of the stop token
    finished: bool  # by a stop token, not by the length

    def score(self, length_penalty: float) -> float:
        """What beams are compared by: the log-probability over length ** length_penalty."""
        return self.log_probability / max(1, len(self.tokens) + self.finished) ** length_penalty


@torch.inference_mode()
def beam_search(
    model: Architecture,
    prompt: Sequence[int],
    *,
    n_beams: int = 4,
    max_new_tokens: int = 200,
    stop_tokens: Sequence[int] = (),
    length_penalty: float = 1.0,
) -> list[Beam]:
    """Up to `n_beams` continuations of a prompt, the best first (Graves 2012, Sequence Transduction with Recurrent
    Neural Networks, arXiv:1211.3711).

    In each step the likeliest `n_beams` continuations of all open beams by one token stay open; those that end with a
    stop token are set aside. It ends when no open beam can become better than the worst of `n_beams` finished ones.
    """
    device = next(model.parameters()).device
    model.eval()
    logits, states, positions = model.prime([prompt], max_new_tokens)
    states = take_rows(states, [0] * n_beams)
    logits = logits.expand(n_beams, -1)
    open_beams: list[tuple[int, ...]] = [()] * n_beams
    sums = torch.full((n_beams,), float("-inf"), dtype=torch.float64)
    sums[0] = 0.0  # at first all beams are one
    finished: list[Beam] = []
    stop = set(stop_tokens)

    for index in range(max_new_tokens):
        candidates = sums[:, None] + logits.double().log_softmax(-1).cpu()  # (n_beams, V)
        # Each beam can lose at most one candidate to each stop token: so many leave enough to stay open.
        found = _best(candidates, n_beams * (1 + len(stop)))
        kept: list[tuple[int, int, float]] = []
        for place, (beam, token, total) in enumerate(found):
            if token in stop:
                if place < n_beams:  # one that would stay open, were it not at its end
                    finished.append(Beam(open_beams[beam], total, finished=True))
            elif len(kept) < n_beams:
                kept.append((beam, token, total))
        open_beams = [(*open_beams[beam], token) for beam, token, _ in kept]
        sums = torch.tensor([total for *_, total in kept], dtype=torch.float64)
        finished = sorted(finished, key=lambda beam: -beam.score(length_penalty))[:n_beams]
        if index + 1 == max_new_tokens or _settled(finished, sums, index + 1, max_new_tokens, n_beams, length_penalty):
            break
        states = take_rows(states, [beam for beam, *_ in kept])
        chosen = torch.tensor([token for _, token, _ in kept], device=device)[:, None]
        step, _ = model(chosen, positions=positions + index, states=states)
        logits = step[:, -1]

    rest = [Beam(tokens, total, finished=False) for tokens, total in zip(open_beams, sums.tolist(), strict=True)]
    reachable = [beam for beam in [*finished, *rest] if beam.log_probability > float("-inf")]
    return sorted(reachable, key=lambda beam: -beam.score(length_penalty))[:n_beams]


def _best(candidates: Tensor, count: int) -> list[tuple[int, int, float]]:
    """(beam, token, log-probability) of the best candidates; ties go to the earlier beam and the lower token."""
    vocab_size = candidates.shape[1]
    values, order = candidates.flatten().sort(descending=True, stable=True)
    pairs = zip(order[:count].tolist(), values[:count].tolist(), strict=True)
    return [(place // vocab_size, place % vocab_size, value) for place, value in pairs]


def _settled(
    finished: Sequence[Beam], sums: Tensor, length: int, longest: int, n_beams: int, length_penalty: float
) -> bool:
    """Whether no open beam can become better than the worst of enough finished ones."""
    if len(finished) < n_beams:
        return False
    # A log-probability only falls; over a power of the length it is best at the end of the range that suits the sign.
    best_length = longest if length_penalty > 0 else length
    return float(sums.max()) / best_length**length_penalty <= finished[-1].score(length_penalty)
