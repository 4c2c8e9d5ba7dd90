"""`generate` and `stream`: new tokens after prompts of token ids."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from typing import NoReturn

from gptzoo.data.tokenizers.tokenizer import Tokenizer
from gptzoo.errors import InputError
from gptzoo.model.architecture import Architecture
from gptzoo.sampling.engine.engine import Engine
from gptzoo.sampling.events import TokenEvent
from gptzoo.sampling.request import Request
from gptzoo.sampling.spec import SamplingSource, SamplingSpec, read_sampling


def generate(
    model: Architecture,
    prompts: Sequence[Sequence[int]],
    spec: SamplingSource | None = None,
    tokenizer: Tokenizer | None = None,
    *,
    draft: Architecture | None = None,
    n_draft_tokens: int = 4,
) -> list[list[int]]:
    """Return the new token ids after each prompt (a sequence of token ids). Raises InputError as `stream` does.

    spec: A sampling spec, its JSON as a dict such as `{"max_new_tokens": 20}`, or the path of its file.

    `gptzoo.load("runs/mine").generate("text")` takes and returns text.

    A model that is only used for inference is up to twice as fast after `gptzoo.prepare_for_inference(model)`, which
    `gptzoo sample` and `gptzoo serve` call.
    """
    engine = _start_engine(model, prompts, read_sampling(spec), tokenizer, None, draft, n_draft_tokens)
    new_tokens: list[list[int]] = [[] for _ in prompts]
    while engine.busy:
        for event in engine.step():
            if event.error is not None:
                raise event.error
            if event.token is not None and event.finish_reason != "stop_token":
                new_tokens[event.request_id].append(event.token)
    return new_tokens


def stream(
    model: Architecture,
    prompts: Sequence[Sequence[int]],
    spec: SamplingSource | None = None,
    tokenizer: Tokenizer | None = None,
    *,
    sample_numbers: Sequence[int] | None = None,
    draft: Architecture | None = None,
    n_draft_tokens: int = 4,
) -> Iterator[list[TokenEvent | None]]:
    """Yield the next token of every prompt, step by step: a list with one entry per prompt.

    An entry is None if the sequence is finished, or if it has no further token yet while another sequence accepted
    several draft tokens.

    spec: a sampling spec, its JSON as a dict, or the path of its file.
    tokenizer: required by stop strings and by logits processors that work on text.
    sample_numbers: the number of each sample, which together with the seed determines its random stream. Default: the
    index of the prompt.
    draft: a smaller model with the same vocabulary that proposes up to `n_draft_tokens` tokens at a time (speculative
    decoding). The distribution of texts stays the same; the text that a given seed produces does not.

    The model is set to eval mode. Raises InputError before the first token for an empty prompt, a token id outside the
    vocabulary, more tokens than the model has positions for, or a draft model that does not fit.
    """
    engine = _start_engine(model, prompts, read_sampling(spec), tokenizer, sample_numbers, draft, n_draft_tokens)
    while engine.busy:
        pending: list[deque[TokenEvent]] = [deque() for _ in prompts]
        for event in engine.step():
            if event.error is not None:
                raise event.error
            if event.token is not None:
                pending[event.request_id].append(event)
        while any(pending):
            yield [events.popleft() if events else None for events in pending]


def _start_engine(
    model: Architecture,
    prompts: Sequence[Sequence[int]],
    spec: SamplingSpec,
    tokenizer: Tokenizer | None,
    sample_numbers: Sequence[int] | None,
    draft: Architecture | None,
    n_draft_tokens: int,
) -> Engine:
    """Return an engine with a slot for each prompt. The id of a request is the index of its prompt."""
    if isinstance(prompts, str):
        _refuse_text(prompts)
    if len(prompts) == 0:
        raise InputError("there is no prompt. Give at least one.")
    prompts = [_as_ids(prompt) for prompt in prompts]
    max_length = max(_slot_length(model, prompt_ids, spec) for prompt_ids in prompts)
    engine = Engine(model, tokenizer, n_slots=len(prompts), max_length=max_length, draft=draft)
    for index, prompt_ids in enumerate(prompts):
        engine.submit(
            Request(
                prompt_ids,
                spec,
                id=index,
                first_sample=index if sample_numbers is None else sample_numbers[index],
                n_draft_tokens=0 if draft is None else n_draft_tokens,
            )
        )
    return engine


def _slot_length(model: Architecture, prompt_ids: Sequence[int], spec: SamplingSpec) -> int:
    """Return how many tokens a slot needs for a prompt and its new tokens, at most what the model can hold."""
    remaining = model.remaining_length(len(prompt_ids))
    n_new = spec.max_new_tokens if remaining is None else min(spec.max_new_tokens, remaining)
    return len(prompt_ids) + n_new


def _as_ids(prompt: Sequence[int]) -> list[int]:
    """Convert a prompt to a list of ints. It may be a row of a tensor or an array."""
    if isinstance(prompt, str):
        _refuse_text(prompt)
    return [int(token) for token in prompt]


def _refuse_text(prompt: str) -> NoReturn:
    raise InputError(
        f"a prompt is a sequence of token ids, got the text {prompt[:40]!r}. Encode it with the tokenizer first, or "
        "use gptzoo.load(RUN).generate(text)."
    )
