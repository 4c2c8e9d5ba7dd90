"""A text that is written beside others is what it is alone, and what it is in one forward."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from gptzoo.model.architecture import Architecture
from gptzoo.model.build import build
from gptzoo.sampling.engine.engine import Engine
from gptzoo.sampling.engine.token_choice import Choice
from gptzoo.sampling.request import Request
from gptzoo.sampling.score import score
from gptzoo.sampling.spec import SamplingSpec
from gptzoo.testing.compare import CLOSE
from gptzoo.testing.subject import HOST, PartSubject, loud
from gptzoo.testing.verdict import Failed

N_AHEAD = 3
PROMPTS = ((1, 2, 3), (4, 5), (6, 7, 8, 9, 10, 11), (1, 2, 3), (12, 3, 5, 7))
LENGTHS = (5, 7, 4, 3, 6)  # of what is written after each


def engine(subject: PartSubject) -> None:
    """Texts that share an engine's rows, are refilled and speculated with, are as each alone and as in one forward."""
    model, draft = (loud(build(subject.spec(), seed=1).eval(), noise).double() for noise in (0, 1))
    written_alike(model, draft)


def written_alike(model: Architecture, draft: Architecture) -> None:
    """Raise Failed where texts that `model` writes, alone, beside others and with `draft`, are not the same."""
    requests = [
        Request(prompt, SamplingSpec(max_new_tokens=length, seed=number))
        for number, (prompt, length) in enumerate(zip(PROMPTS, LENGTHS, strict=True))
    ]
    alone = [_write(model, [request], n_rows=1)[0] for request in requests]
    if not model.required_inputs:
        _as_in_one_forward(model, alone)
    for n_rows in (2, len(requests)):
        _same(_write(model, requests, n_rows=n_rows), alone, f"beside others, in {n_rows} rows that are refilled,")

    likeliest = SamplingSpec.model_validate({"processors": [{"type": "temperature", "value": 0}]})
    for number, request in enumerate(requests):
        spec = likeliest.model_copy(update={"max_new_tokens": request.spec.max_new_tokens})
        requests[number] = Request(request.tokens, spec, n_ahead=N_AHEAD * (number != 1))
    alone = [_write(model, [Request(request.tokens, request.spec)], n_rows=1)[0] for request in requests]
    pads = all("padding" in attention.component.supports for attention in model.spec.per_layer("attention"))
    for n_rows in (1, 3) if pads else (1,):
        told = f"with tokens that a draft proposes, in {n_rows} {'row' if n_rows == 1 else 'rows'},"
        _same(_write(model, requests, n_rows=n_rows, draft=draft), alone, told)


def _write(model: Architecture, requests: Sequence[Request], **how: Any) -> list[list[Choice]]:
    """What is chosen for each request."""
    engine = Engine(model, max_length=HOST["context_length"], **how)
    numbers = [engine.submit(request) for request in requests]
    written: dict[Any, list[Choice]] = {number: [] for number in numbers}
    while engine.busy:
        for event in engine.step():
            if event.error is not None:
                raise Failed(f"a prompt of {len(requests[numbers.index(event.request)].tokens)} tokens: {event.error}")
            if event.choice is not None:
                written[event.request].append(event.choice)
    return [written[number] for number in numbers]


def _as_in_one_forward(model: Architecture, texts: Sequence[Sequence[Choice]]) -> None:
    rows = [[*prompt, *(choice.token for choice in text)] for prompt, text in zip(PROMPTS, texts, strict=True)]
    for prompt, text, expected in zip(PROMPTS, texts, score(model, rows), strict=True):
        found = torch.tensor([choice.log_probability for choice in text])
        differences = (found - expected[len(prompt) - 1 :]).abs().nan_to_num(nan=float("inf"))
        if differences.max() > CLOSE:
            raise Failed(
                f"after a prompt of {len(prompt)} tokens, new token {int((differences > CLOSE).nonzero()[0])} has a "
                f"log-probability that one forward over the finished text does not give it, off by "
                f"{differences.max():.2g}"
            )


def _same(texts: Sequence[Sequence[Choice]], alone: Sequence[Sequence[Choice]], told: str) -> None:
    for prompt, text, expected in zip(PROMPTS, texts, alone, strict=True):
        for place, (choice, other) in enumerate(zip(text, expected, strict=True)):
            difference = abs(choice.log_probability - other.log_probability)
            if choice.token != other.token or not difference <= CLOSE:
                raise Failed(
                    f"{told} new token {place} after a prompt of {len(prompt)} tokens is {choice.token}, with the "
                    f"log-probability {choice.log_probability:.6g}; alone it is {other.token}, with "
                    f"{other.log_probability:.6g}"
                )
