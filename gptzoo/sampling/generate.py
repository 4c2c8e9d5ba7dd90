"""New tokens after prompts: all rows side by side, one token a step, by the engine."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence

from gptzoo.data.tokenizers.tokenizer import Tokenizer
from gptzoo.errors import InputError
from gptzoo.model.architecture import Architecture
from gptzoo.sampling.engine.engine import Engine
from gptzoo.sampling.engine.token_choice import Choice, check
from gptzoo.sampling.request import Request
from gptzoo.sampling.spec import SamplingSpec


def generate(
    model: Architecture,
    prompts: Sequence[Sequence[int]],
    spec: SamplingSpec | None = None,
    tokenizer: Tokenizer | None = None,
    *,
    draft: Architecture | None = None,
    n_ahead: int = 4,
) -> list[list[int]]:
    """New token ids for each prompt (a sequence of ids). Raises InputError as `stream` does.

    A model that will only write is up to twice as fast after `gptzoo.prepare_for_inference(model)`, which
    `gptzoo sample` and `gptzoo serve` do.
    """
    rows: list[list[int]] = [[] for _ in prompts]
    for chosen in stream(model, prompts, spec, tokenizer, draft=draft, n_ahead=n_ahead):
        for row, choice in zip(rows, chosen, strict=True):
            if choice is not None and choice.end != "stop_token":
                row.append(choice.token)
    return rows


def stream(
    model: Architecture,
    prompts: Sequence[Sequence[int]],
    spec: SamplingSpec | None = None,
    tokenizer: Tokenizer | None = None,
    *,
    streams: Sequence[int] | None = None,
    draft: Architecture | None = None,
    n_ahead: int = 4,
) -> Iterator[list[Choice | None]]:
    """Yield what is chosen for every row, step by step; None for a row that has ended, or that others are ahead of.

    `tokenizer` is for stop texts and for the processors that work on text. Row i draws from the random stream number
    `streams[i]` of the seed, left out number i. The model is put in eval mode.

    draft: a smaller model of the same vocabulary that proposes `n_ahead` tokens at a time, which the model checks in
    one pass: speculative decoding. The distribution of texts is the model's own; which text a seed gives is another.

    Raises InputError before the first token for an empty prompt, an id outside the vocabulary, more tokens than the
    model's positions reach, or a draft that does not go with the model.
    """
    spec = spec or SamplingSpec()
    prompts = [_as_ids(prompt) for prompt in prompts]
    check(model, prompts, spec)
    length = max(map(len, prompts)) + spec.max_new_tokens
    engine = Engine(model, tokenizer, n_rows=len(prompts), max_length=length, draft=draft)
    for row, number in enumerate(range(len(prompts)) if streams is None else streams):
        ahead = 0 if draft is None else n_ahead
        engine.submit(Request(prompts[row], spec, id=row, first_sample=number, n_ahead=ahead))
    while engine.busy:
        chosen: list[deque[Choice]] = [deque() for _ in prompts]
        for event in engine.step():
            if event.error is not None:
                raise event.error
            if event.choice is not None:
                chosen[event.request].append(event.choice)
        while any(chosen):
            yield [choices.popleft() if choices else None for choices in chosen]


def _as_ids(prompt: Sequence[int]) -> list[int]:
    """A prompt as plain numbers: it may be a row of a tensor or of an array."""
    if isinstance(prompt, str):
        raise InputError(f"a prompt is a sequence of ids, not a text: {prompt[:40]!r}; encode it with the tokenizer")
    return [int(token) for token in prompt]
