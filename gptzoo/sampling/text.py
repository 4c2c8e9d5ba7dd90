"""Text in, text out: the sampler between two ends of a tokenizer."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from gptzoo.checkpoint.model_folder import Loaded
from gptzoo.data.tokenizers.tokenizer import Tokenizer
from gptzoo.errors import InputError
from gptzoo.sampling.engine.stopping import End, StopDecoder
from gptzoo.sampling.engine.token_choice import Choice
from gptzoo.sampling.generate import stream
from gptzoo.sampling.spec import SamplingSpec


def encode_prompt(loaded: Loaded, prompt: str) -> list[int]:
    """The ids of a prompt; an empty one becomes the token that ends a text, if there is one. Raises InputError."""
    tokenizer = tokenizer_of(loaded)
    if ids := list(tokenizer.encode(prompt)):
        return ids
    if tokenizer.eot is None:
        raise InputError(f"tokenizer {tokenizer.name!r} has no token to start a text with; give a --prompt")
    return [tokenizer.eot]


def tokenizer_of(loaded: Loaded) -> Tokenizer:
    if loaded.tokenizer is None:
        raise InputError(f"{loaded.folder}: has no tokenizer.json, so text cannot be read or written with this model")
    return loaded.tokenizer


@dataclass(frozen=True)
class Sample:
    """A text that was written after a prompt."""

    text: str  # without the prompt, and without the stop text that ended it
    tokens: tuple[int, ...]  # without the stop token that ended it
    log_probabilities: tuple[float, ...]  # of each of them, in nats, by the model itself
    log_probability: float  # of all of them, and of the stop token
    end: End
    seconds: float = field(default=0.0, compare=False)  # from the start to its end
    seconds_to_first: float = field(default=0.0, compare=False)  # to its first token

    @property
    def mean_log_probability(self) -> float:
        """By token, the stop token among them; what best-of-n ranks by."""
        return self.log_probability / max(1, len(self.tokens) + (self.end == "stop_token"))


class Writing:
    """A sample that is being written: takes what is chosen, and gives the text that is certain."""

    def __init__(self, tokenizer: Tokenizer, spec: SamplingSpec):
        self.decoder = StopDecoder(tokenizer, spec.stop_texts)
        self.text = ""
        self.choices: list[Choice] = []
        self.end: End = "finished" if spec.max_new_tokens else "length"  # of a row that nothing was chosen for
        self.clock = [time.perf_counter()]  # the start, then the time of each choice

    def feed(self, choice: Choice) -> str:
        """The text, of whole characters, that is certain now and was not before."""
        self.choices.append(choice)
        self.clock.append(time.perf_counter())
        piece = "" if choice.end == "stop_token" else self.decoder.feed(choice.token)
        if choice.end is not None:
            self.end = choice.end
            piece += self.decoder.flush()
        self.text += piece
        return piece

    def sample(self) -> Sample:
        """What was written, once it has ended."""
        written = [choice for choice in self.choices if choice.end != "stop_token"]
        return Sample(
            self.text,
            tuple(choice.token for choice in written),
            tuple(choice.log_probability for choice in written),
            sum(choice.log_probability for choice in self.choices),
            self.end,
            self.clock[-1] - self.clock[0],
            self.clock[min(1, len(self.choices))] - self.clock[0],
        )


def sample_texts(loaded: Loaded, prompts: Sequence[str], spec: SamplingSpec, n_samples: int = 1) -> list[list[Sample]]:
    """`n_samples` continuations of each prompt. A sample depends on its prompt, its number and `spec` alone."""
    rows = [ids for prompt in prompts for ids in [encode_prompt(loaded, prompt)] * n_samples]
    samples = sample_rows(loaded, rows, spec, [*range(n_samples)] * len(prompts))
    return [samples[start : start + n_samples] for start in range(0, len(samples), n_samples)]


def sample_rows(
    loaded: Loaded,
    rows: Sequence[Sequence[int]],
    spec: SamplingSpec,
    streams: Sequence[int] | None = None,
    **how: Any,
) -> list[Sample]:
    """A continuation of each row of ids, side by side; `streams` and `how` as in `gptzoo.stream`."""
    writings = [Writing(tokenizer_of(loaded), spec) for _ in rows]
    for chosen in stream(loaded.model, rows, spec, loaded.tokenizer, streams=streams, **how):
        for writing, choice in zip(writings, chosen, strict=True):
            if choice is not None:
                writing.feed(choice)
    return [writing.sample() for writing in writings]


def likeliest(samples: Iterable[Sample], n: int = 1) -> list[Sample]:
    """The `n` samples that the model finds likeliest by token, the best first."""
    return sorted(samples, key=lambda sample: -sample.mean_log_probability)[:n]
