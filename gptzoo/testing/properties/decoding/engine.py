"""Continuous batching: sequences that share the engine's slots are the same as alone."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import torch

from gptzoo.model.architecture import Architecture
from gptzoo.model.build import build
from gptzoo.sampling.engine.engine import Engine
from gptzoo.sampling.events import TokenEvent
from gptzoo.sampling.request import Request
from gptzoo.sampling.score import score
from gptzoo.sampling.spec import SamplingSpec
from gptzoo.testing.compare import TOLERANCE
from gptzoo.testing.component_under_test import ModelPartUnderTest
from gptzoo.testing.tiny_model import TINY_MODEL, add_weight_noise
from gptzoo.testing.verdict import Failed

_PROMPTS = ((1, 2, 3), (4, 5), (6, 7, 8, 9, 10, 11), (1, 2, 3), (12, 3, 5, 7))
_N_NEW_TOKENS = (5, 7, 4, 3, 6)  # after each prompt
_N_DRAFT_TOKENS = 3

Sequences = Sequence[Sequence[TokenEvent]]  # the generated tokens of each prompt


def check_engine(subject: ModelPartUnderTest) -> None:
    """Check that sequences in shared slots of the engine, or with a draft model, are the same as generated alone."""
    models = [build(subject.spec(), seed=1).eval() for _ in range(2)]
    for noise_seed, model in enumerate(models):
        add_weight_noise(model, noise_seed)
    model, draft = (model.double() for model in models)
    check_continuous_batching(model, draft, list(zip(_PROMPTS, _N_NEW_TOKENS, strict=True)))


def check_continuous_batching(
    model: Architecture,
    draft: Architecture,
    prompts: Sequence[tuple[Sequence[int], int]],
    max_length: int = TINY_MODEL["context_length"],
    slot_counts: Sequence[int] = (2, 5),
    n_draft_tokens: int = _N_DRAFT_TOKENS,
) -> None:
    """Raise Failed unless `model` generates the same sequences alone, in shared slots, and with a draft model.

    prompts: token ids, each with the number of new tokens after it.
    """
    requests = [
        Request(tuple(prompt), SamplingSpec(max_new_tokens=n_new, seed=seed))
        for seed, (prompt, n_new) in enumerate(prompts)
    ]
    tolerance = _tolerance(model, [request.prompt_ids for request in requests])
    alone = [_generate(model, [request], n_slots=1, max_length=max_length)[0] for request in requests]
    if not model.required_inputs:
        _check_log_probabilities(model, requests, alone, tolerance)
    for n_slots in slot_counts:
        sequences = _generate(model, requests, n_slots=n_slots, max_length=max_length)
        _check_equal(requests, sequences, alone, tolerance, f"in {n_slots} slots shared with other sequences")

    greedy = SamplingSpec.model_validate({"processors": [{"type": "temperature", "value": 0}]})
    for index, request in enumerate(requests):
        spec = greedy.model_copy(update={"max_new_tokens": request.spec.max_new_tokens})
        # The second request does without the draft, so that a batch mixes both ways.
        requests[index] = Request(request.prompt_ids, spec, n_draft_tokens=0 if index == 1 else n_draft_tokens)
    alone = [
        _generate(model, [Request(request.prompt_ids, request.spec)], n_slots=1, max_length=max_length)[0]
        for request in requests
    ]
    supports_padding = all("padding" in config.component.supports for config in model.spec.per_layer("attention"))
    for n_slots in (1, 3) if supports_padding else (1,):
        sequences = _generate(model, requests, n_slots=n_slots, draft=draft, max_length=max_length)
        setting = f"with a draft model, in {n_slots} slot{'s' if n_slots > 1 else ''}"
        _check_equal(requests, sequences, alone, tolerance, setting)


def _generate(
    model: Architecture,
    requests: Sequence[Request],
    *,
    n_slots: int,
    max_length: int,
    draft: Architecture | None = None,
) -> list[list[TokenEvent]]:
    """Return the generated tokens of each request."""
    engine = Engine(model, max_length=max_length, n_slots=n_slots, draft=draft)
    ids = [engine.submit(request) for request in requests]
    sequences: dict[Hashable, list[TokenEvent]] = {request_id: [] for request_id in ids}
    while engine.busy:
        for event in engine.step():
            if event.error is not None:
                n_tokens = len(requests[ids.index(event.request_id)].prompt_ids)
                raise Failed(f"a prompt of {n_tokens} tokens fails: {event.error}")
            if event.token is not None:
                sequences[event.request_id].append(event)
    return [sequences[request_id] for request_id in ids]


def _check_log_probabilities(
    model: Architecture, requests: Sequence[Request], sequences: Sequences, tolerance: float
) -> None:
    """Check the log-probabilities against one forward pass over each finished sequence."""
    rows = [[*r.prompt_ids, *_token_ids(tokens)] for r, tokens in zip(requests, sequences, strict=True)]
    for request, tokens, expected in zip(requests, sequences, score(model, rows), strict=True):
        prompt = request.prompt_ids
        log_probabilities = torch.tensor([event.log_probability for event in tokens])
        differences = (log_probabilities - expected[len(prompt) - 1 :]).abs().nan_to_num(nan=float("inf"))
        wrong = differences > tolerance
        if wrong.any():
            raise Failed(
                f"after a prompt of {len(prompt)} tokens, the log-probability of new token "
                f"{int(wrong.nonzero()[0])} differs from that of one forward pass over the "
                f"finished sequence by up to {differences[wrong].max():.2g}"
            )


def _check_equal(
    requests: Sequence[Request], sequences: Sequences, alone: Sequences, tolerance: float, setting: str
) -> None:
    for request, tokens, expected in zip(requests, sequences, alone, strict=True):
        prompt = request.prompt_ids
        for index, (event, other) in enumerate(zip(tokens, expected, strict=True)):
            difference = abs(event.log_probability - other.log_probability)
            if event.token != other.token or not difference <= tolerance:
                raise Failed(
                    f"{setting}, new token {index} after a prompt of {len(prompt)} tokens is {event.token} with "
                    f"log-probability {event.log_probability:.6g}; alone it is {other.token} with log-probability "
                    f"{other.log_probability:.6g}"
                )


@torch.no_grad()
def _tolerance(model: Architecture, prompts: Sequence[Sequence[int]]) -> float:
    """Return the allowed difference of log-probabilities, which grows with the logits, since they become float32."""
    if model.required_inputs:
        return TOLERANCE
    return TOLERANCE * max(1.0, *(float(model(torch.tensor([prompt]))[0].abs().max()) for prompt in prompts))


def _token_ids(tokens: Sequence[TokenEvent]) -> list[int]:
    return [event.token for event in tokens if event.token is not None]
