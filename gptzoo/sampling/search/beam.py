"""Beam search: find likely texts by extending the best few at every step."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from gptzoo.data.tokenizers.tokenizer import Tokenizer
from gptzoo.errors import InputError
from gptzoo.model.architecture import Architecture
from gptzoo.sampling.engine.logits import process_logits_or_raise
from gptzoo.sampling.engine.sampler import top_logprobs
from gptzoo.sampling.engine.stopping import StoppingCriteria
from gptzoo.sampling.events import FinishReason, TokenEvent
from gptzoo.sampling.processors.processor import NEG_INF
from gptzoo.sampling.request import check_prompt
from gptzoo.sampling.sequence import TokenSequence
from gptzoo.sampling.spec import SamplingSource, SamplingSpec, read_sampling
from gptzoo.sampling.state_rows import take_rows

_MAX_LENGTH_PENALTY = 10  # powers of a length with larger exponents may overflow


@dataclass(frozen=True)
class Beam:
    """One text of a beam search."""

    events: tuple[TokenEvent, ...]  # its tokens, including the stop token
    score_sum: float  # sum of the processed log-probabilities of all tokens

    @property
    def tokens(self) -> tuple[int, ...]:
        """The new tokens, without the stop token."""
        return tuple(token for token, event in zip(self.all_tokens, self.events, strict=True) if not _is_stop(event))

    @property
    def all_tokens(self) -> tuple[int, ...]:
        """The new tokens, including the stop token."""
        return tuple(event.token for event in self.events if event.token is not None)

    @property
    def log_probability(self) -> float:
        """The log-probability of all tokens in nats, under the model itself."""
        return sum(event.log_probability for event in self.events)

    @property
    def finish_reason(self) -> FinishReason | None:
        """The finish reason of the beam, or None if it is open."""
        return self.events[-1].finish_reason if self.events else None

    def score(self, length_penalty: float) -> float:
        """Return the score that ranks beams: the sum divided by length ** length_penalty."""
        return self.score_sum / max(1, len(self.events)) ** length_penalty

    def sequence(self, prompt_ids: Sequence[int], *next_tokens: int) -> TokenSequence:
        """Return the beam as logits processors see it, optionally with further tokens."""
        return TokenSequence([*prompt_ids, *self.all_tokens, *next_tokens], len(prompt_ids))


def _is_stop(event: TokenEvent) -> bool:
    return event.finish_reason == "stop_token"


def beam_search(
    model: Architecture,
    prompt_ids: Sequence[int],
    spec: SamplingSource | None = None,
    tokenizer: Tokenizer | None = None,
    n_beams: int = 4,
    length_penalty: float = 1.0,
    n_top_logprobs: int = 0,
) -> list[Beam]:
    """Return up to `n_beams` continuations of a prompt, the best first.

    Paper: Graves 2012, Sequence Transduction with Recurrent Neural Networks, arXiv:1211.3711.

    At each step, the best `n_beams` one-token continuations of all open beams stay open, and beams that end are set
    aside. The search stops when no open beam can still beat the worst of `n_beams` finished ones. The processors of
    `spec` are applied to the log-probabilities. Each event has the `n_top_logprobs` most likely tokens at its place.
    Raises InputError as `gptzoo.generate` does.
    """
    steps = beam_search_steps(model, prompt_ids, spec, tokenizer, n_beams, length_penalty, n_top_logprobs)
    return next(beams for beams in steps if beams is not None)


@torch.inference_mode()
def beam_search_steps(
    model: Architecture,
    prompt_ids: Sequence[int],
    spec: SamplingSource | None = None,
    tokenizer: Tokenizer | None = None,
    n_beams: int = 4,
    length_penalty: float = 1.0,
    n_top_logprobs: int = 0,
) -> Iterator[list[Beam] | None]:
    """Yield None after each step of `beam_search`, then its result."""
    if not -_MAX_LENGTH_PENALTY <= length_penalty <= _MAX_LENGTH_PENALTY or n_beams < 1:
        raise InputError(
            f"beam search needs a length penalty from -{_MAX_LENGTH_PENALTY} to {_MAX_LENGTH_PENALTY} and at least 1 "
            f"beam, got {length_penalty} and {n_beams}"
        )
    spec = read_sampling(spec)
    check_prompt(model, prompt_ids, spec)
    device = next(model.parameters()).device
    model.eval()
    stopping = StoppingCriteria(spec, tokenizer, model.spec.dims.vocab_size)
    open_beams = [Beam((), 0.0)]
    finished: list[Beam] = []
    if stopping.finish_reason(open_beams[0].sequence(prompt_ids)) is not None:
        yield open_beams
        return
    logits, states, positions = model.prefill([prompt_ids], spec.max_new_tokens)

    for index in range(spec.max_new_tokens):
        log_probs = logits.float().log_softmax(-1)  # (beams, V)
        tops = [top_logprobs(row, n_top_logprobs, stopping.vocab_size) if n_top_logprobs else {} for row in log_probs]
        sequences = [beam.sequence(prompt_ids) for beam in open_beams]
        processed = process_logits_or_raise(stopping, log_probs, sequences)
        sums = torch.tensor([beam.score_sum for beam in open_beams], dtype=torch.float64)[:, None]
        kept: list[tuple[int, Beam]] = []  # index of the parent beam, and the extended beam
        for rank, (parent, token, score_sum) in enumerate(_best_first(sums + processed.cpu().double())):
            finish_reason = stopping.finish_reason(open_beams[parent].sequence(prompt_ids, token))
            event = TokenEvent(token, float(log_probs[parent, token]), finish_reason, tops[parent])
            beam = Beam((*open_beams[parent].events, event), score_sum)
            if finish_reason in (None, "length"):
                kept.append((parent, beam))
            elif rank < n_beams:  # it would have stayed open
                finished.append(beam)
            if len(kept) == n_beams:
                break
        open_beams = [beam for _, beam in kept]
        finished = sorted(finished, key=lambda beam: -beam.score(length_penalty))[:n_beams]
        if index + 1 == spec.max_new_tokens or _is_done(open_beams, finished, spec, n_beams, length_penalty):
            break
        states = take_rows(states, [parent for parent, _ in kept])
        tokens = torch.tensor([beam.all_tokens[-1] for beam in open_beams], device=device)[:, None]
        step_logits, _ = model(tokens, positions=positions + index, states=states)
        logits = step_logits[:, -1]
        yield None

    yield sorted([*finished, *open_beams], key=lambda beam: -beam.score(length_penalty))[:n_beams]


def _best_first(sums: Tensor) -> Iterator[tuple[int, int, float]]:
    """Yield (beam, token, sum) from sums (beams, V), the best first. Ties go to the earlier beam and the lower id."""
    vocab_size = sums.shape[1]
    values, order = sums.flatten().sort(descending=True, stable=True)
    for index, value in zip(order, values, strict=True):
        if value == NEG_INF:
            return
        yield int(index) // vocab_size, int(index) % vocab_size, float(value)


def _is_done(
    open_beams: Sequence[Beam], finished: Sequence[Beam], spec: SamplingSpec, n_beams: int, length_penalty: float
) -> bool:
    """Return True if no open beam can become better than the worst of `n_beams` finished ones."""
    if not open_beams:
        return True
    if len(finished) < n_beams:
        return False
    # The sum only falls, so the best possible score divides today's sum by the most favourable length.
    best_length = spec.max_new_tokens if length_penalty > 0 else len(open_beams[0].events)
    best_sum = max(beam.score_sum for beam in open_beams)
    return best_sum / best_length**length_penalty <= finished[-1].score(length_penalty)
