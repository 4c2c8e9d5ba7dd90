"""Beam search: the likeliest texts that can be found by keeping a few at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from gptzoo.data.tokenizers.tokenizer import Tokenizer
from gptzoo.model.architecture import Architecture
from gptzoo.sampling.engine.state_rows import take_rows
from gptzoo.sampling.engine.stopping import StoppingCriteria
from gptzoo.sampling.engine.token_choice import Choice, check
from gptzoo.sampling.processors.processor import NEVER, build_processors, processed
from gptzoo.sampling.sequence import TokenSequence
from gptzoo.sampling.spec import SamplingSpec


@dataclass(frozen=True)
class Beam:
    """A text that was found."""

    choices: tuple[Choice, ...]  # the stop token that ended it among them
    score_sum: float  # what processors left of the log-probabilities of all of them

    @property
    def tokens(self) -> tuple[int, ...]:
        """The new ids, without a stop token."""
        return tuple(choice.token for choice in self.choices if choice.end != "stop_token")

    @property
    def log_probability(self) -> float:
        """Of all choices, in nats, by the model itself."""
        return sum(choice.log_probability for choice in self.choices)

    def score(self, length_penalty: float) -> float:
        """What beams are compared by: the sum over length ** length_penalty."""
        return self.score_sum / max(1, len(self.choices)) ** length_penalty


@torch.inference_mode()
def beam_search(
    model: Architecture,
    prompt: Sequence[int],
    spec: SamplingSpec | None = None,
    tokenizer: Tokenizer | None = None,
    n_beams: int = 4,
    length_penalty: float = 1.0,
) -> list[Beam]:
    """Up to `n_beams` continuations of a prompt, the best first (Graves 2012, Sequence Transduction with Recurrent
    Neural Networks, arXiv:1211.3711).

    In each step the likeliest `n_beams` continuations of all open beams by one token stay open; those that end are set
    aside. It ends when no open beam can become better than the worst of `n_beams` that have ended. The processors of
    `spec` are applied to log-probabilities, which they may exclude or change. Raises InputError as `gptzoo.generate`.
    """
    spec = spec or SamplingSpec()
    check(model, [prompt], spec)
    device = next(model.parameters()).device
    model.eval()
    processors = build_processors(spec.processors, tokenizer)
    endings = StoppingCriteria(spec, processors, tokenizer)
    open_beams = [Beam((), 0.0)]
    finished: list[Beam] = []
    if endings.reason(_row(prompt, open_beams[0])) is not None:
        return open_beams
    logits, states, positions = model.prefill([prompt], spec.max_new_tokens)

    for index in range(spec.max_new_tokens):
        own = logits.float().log_softmax(-1)  # (beams, V)
        left = processed(processors, own, [_row(prompt, beam) for beam in open_beams])
        sums = torch.tensor([beam.score_sum for beam in open_beams], dtype=torch.float64)[:, None] + left.double().cpu()
        kept: list[tuple[int, Beam]] = []
        for place, (parent, token, total) in enumerate(_best_first(sums)):
            end = endings.reason(_row(prompt, open_beams[parent], token))
            choice = Choice(token, float(own[parent, token]), end)
            beam = Beam((*open_beams[parent].choices, choice), total)
            if end in (None, "length"):
                kept.append((parent, beam))
            elif place < n_beams:  # one that would stay open, were it not at its end
                finished.append(beam)
            if len(kept) == n_beams:
                break
        open_beams = [beam for _, beam in kept]
        finished = sorted(finished, key=lambda beam: -beam.score(length_penalty))[:n_beams]
        if index + 1 == spec.max_new_tokens or _settled(open_beams, finished, spec, n_beams, length_penalty):
            break
        states = take_rows(states, [parent for parent, _ in kept])
        chosen = torch.tensor([beam.choices[-1].token for beam in open_beams], device=device)[:, None]
        step, _ = model(chosen, positions=positions + index, states=states)
        logits = step[:, -1]

    return sorted([*finished, *open_beams], key=lambda beam: -beam.score(length_penalty))[:n_beams]


def _row(prompt: Sequence[int], beam: Beam, *more: int) -> TokenSequence:
    return TokenSequence([*prompt, *(choice.token for choice in beam.choices), *more], len(prompt))


def _best_first(sums: Tensor) -> Iterator[tuple[int, int, float]]:
    """(beam, token, sum) of what is possible, the best first; ties go to the earlier beam and the lower token."""
    vocab_size = sums.shape[1]
    values, order = sums.flatten().sort(descending=True, stable=True)
    for place, value in zip(order, values, strict=True):
        if value == NEVER:
            return
        yield int(place) // vocab_size, int(place) % vocab_size, float(value)


def _settled(
    open_beams: Sequence[Beam], finished: Sequence[Beam], spec: SamplingSpec, n_beams: int, length_penalty: float
) -> bool:
    """Whether no open beam can become better than the worst of enough finished ones."""
    if not open_beams:
        return True
    if len(finished) < n_beams:
        return False
    # A log-probability only falls; over a power of the length it is best at the end of the range that suits the sign.
    best_length = spec.max_new_tokens if length_penalty > 0 else len(open_beams[0].choices)
    best = max(beam.score_sum for beam in open_beams)
    return best / best_length**length_penalty <= finished[-1].score(length_penalty)
