"""Contrastive search: choose the likely token whose hidden state repeats the context least."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F

from gptzoo.components.sublayer import AuxiliaryOutputs
from gptzoo.data.tokenizers.tokenizer import Tokenizer
from gptzoo.errors import InputError, LogitsError
from gptzoo.model.architecture import Architecture
from gptzoo.sampling.engine.logits import process_logits_or_raise
from gptzoo.sampling.engine.sampler import top_logprobs
from gptzoo.sampling.engine.stopping import StoppingCriteria
from gptzoo.sampling.events import TokenEvent
from gptzoo.sampling.processors.processor import NEG_INF
from gptzoo.sampling.request import check_prompt
from gptzoo.sampling.sequence import TokenSequence
from gptzoo.sampling.spec import SamplingSource, read_sampling
from gptzoo.sampling.state_rows import take_rows


@torch.inference_mode()
def contrastive_search(
    model: Architecture,
    prompt_ids: Sequence[int],
    spec: SamplingSource | None = None,
    tokenizer: Tokenizer | None = None,
    alpha: float = 0.6,
    n_candidates: int = 4,
    n_top_logprobs: int = 0,
) -> Iterator[TokenEvent]:
    """Yield new tokens after a prompt, without randomness.

    Paper: Su et al. 2022, A Contrastive Framework for Neural Text Generation, arXiv:2202.06417.

    Each of the `n_candidates` most likely tokens is scored by (1 - alpha) times its probability, minus alpha times the
    largest cosine similarity of its last hidden state to that of any earlier token. The best one is chosen, so alpha 0
    is greedy decoding. The processors of `spec` are applied first. Each event has the `n_top_logprobs` most likely
    tokens at its place. Raises InputError for an architecture that does not capture "hidden", and as `gptzoo.generate`
    does.
    """
    spec = read_sampling(spec)
    if not 0 <= alpha <= 1 or n_candidates < 1:
        raise InputError(
            f"contrastive search needs an alpha from 0 to 1 and at least 1 candidate, got {alpha} and {n_candidates}"
        )
    check_prompt(model, prompt_ids, spec)
    model.eval()
    stopping = StoppingCriteria(spec, tokenizer, model.spec.dims.vocab_size)
    sequence = TokenSequence(list(prompt_ids), len(prompt_ids))
    if stopping.finish_reason(sequence) is not None:
        return
    outputs = AuxiliaryOutputs()
    logits, states, position = model.prefill([prompt_ids], spec.max_new_tokens, capture={"hidden"}, auxiliary=outputs)
    context = _hidden_directions(outputs)[0]  # (T, C)

    for index in range(spec.max_new_tokens):
        logits = logits.float()
        processed = process_logits_or_raise(stopping, logits, [sequence])[0]
        n_possible = int((processed > NEG_INF).sum())
        candidate_probs, candidates = processed.softmax(-1).topk(min(n_candidates, n_possible))  # (N,)
        states = take_rows(states, [0] * len(candidates))
        outputs = AuxiliaryOutputs()
        next_logits, _ = model(
            candidates[:, None], positions=position + index, states=states, capture={"hidden"}, auxiliary=outputs
        )
        directions = _hidden_directions(outputs)[:, 0]  # (N, C)
        similarity = (directions @ context.T).amax(dim=-1)
        if not bool(similarity.isfinite().all()):
            raise LogitsError(
                f"no token can be chosen: the hidden states of the model at new token {index + 1} have NaN. Check the "
                "weights of the checkpoint for values that are not finite."
            )
        best = int(((1 - alpha) * candidate_probs - alpha * similarity).argmax())

        token = int(candidates[best])
        sequence.tokens.append(token)
        finish_reason = stopping.finish_reason(sequence)
        top = top_logprobs(logits[0], n_top_logprobs, stopping.vocab_size) if n_top_logprobs else {}
        yield TokenEvent(token, float(logits[0].log_softmax(-1)[token]), finish_reason, top)
        if finish_reason is not None:
            return
        states, logits = take_rows(states, [best]), next_logits[best, -1:]
        context = torch.cat([context, directions[best : best + 1]])


def _hidden_directions(outputs: AuxiliaryOutputs) -> torch.Tensor:
    """Return the last hidden states (B, T, C), scaled to length 1."""
    if "hidden" not in outputs.captures:
        raise InputError('contrastive search needs hidden states, but the architecture does not capture "hidden"')
    return F.normalize(outputs.captures["hidden"].float(), dim=-1)
