"""Contrastive search: the likely token that the text before makes least redundant."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F

from gptzoo.components.sublayer import AuxiliaryOutputs
from gptzoo.data.tokenizers.tokenizer import Tokenizer
from gptzoo.errors import InputError
from gptzoo.model.architecture import Architecture
from gptzoo.sampling.engine.state_rows import take_rows
from gptzoo.sampling.engine.stopping import StoppingCriteria
from gptzoo.sampling.engine.token_choice import Choice, check
from gptzoo.sampling.processors.processor import NEVER, build_processors, processed
from gptzoo.sampling.sequence import TokenSequence
from gptzoo.sampling.spec import SamplingSpec


@torch.inference_mode()
def contrastive_search(
    model: Architecture,
    prompt: Sequence[int],
    spec: SamplingSpec | None = None,
    tokenizer: Tokenizer | None = None,
    alpha: float = 0.6,
    n_candidates: int = 4,
) -> Iterator[Choice]:
    """Yield new tokens after a prompt of ids; nothing is drawn at random (Su et al. 2022, A Contrastive Framework for
    Neural Text Generation, arXiv:2202.06417).

    Of the `n_candidates` likeliest tokens the one is taken whose probability, times 1 - alpha, exceeds the most by
    which its last hidden state would resemble (cosine) that of any token before, times alpha. alpha 0 is greedy. The
    processors of `spec` are applied first. Raises InputError for an architecture without the capture "hidden", and as
    `gptzoo.generate` does.
    """
    spec = spec or SamplingSpec()
    check(model, [prompt], spec)
    model.eval()
    processors = build_processors(spec.processors, tokenizer)
    endings = StoppingCriteria(spec, processors, tokenizer)
    row = TokenSequence(list(prompt), len(prompt))
    if endings.reason(row) is not None:
        return
    seen = AuxiliaryOutputs()
    logits, states, position = model.prefill([prompt], spec.max_new_tokens, capture={"hidden"}, auxiliary=seen)
    context = _directions(seen)[0]  # (T, C)

    for index in range(spec.max_new_tokens):
        logits = logits.float()
        left = processed(processors, logits, [row])[0]
        probabilities, candidates = left.softmax(-1).topk(min(n_candidates, int((left > NEVER).sum())))  # (N,)
        states = take_rows(states, [0] * len(candidates))
        seen = AuxiliaryOutputs()
        following, _ = model(
            candidates[:, None], positions=position + index, states=states, capture={"hidden"}, auxiliary=seen
        )
        directions = _directions(seen)[:, 0]  # (N, C)
        resemblance = (directions @ context.T).amax(dim=-1)
        best = int(((1 - alpha) * probabilities - alpha * resemblance).argmax())

        token = int(candidates[best])
        row.tokens.append(token)
        end = endings.reason(row)
        yield Choice(token, float(logits[0].log_softmax(-1)[token]), end)
        if end is not None:
            return
        states, logits = take_rows(states, [best]), following[best, -1:]
        context = torch.cat([context, directions[best : best + 1]])


def _directions(seen: AuxiliaryOutputs) -> torch.Tensor:
    """The last hidden states (B, T, C), each of length 1."""
    if "hidden" not in seen.captures:
        raise InputError('contrastive search needs the last hidden states: the architecture does not capture "hidden"')
    return F.normalize(seen.captures["hidden"].float(), dim=-1)
