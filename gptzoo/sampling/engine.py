"""Many prompts through one model: rows of one batch that are refilled as soon as a text ends.

What a row keeps belongs to the components; the engine only clones and moves rows of it (`gptzoo.sampling.states`).
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor

from gptzoo.components.base import Architecture, Primed
from gptzoo.data.tokenizers import Tokenizer
from gptzoo.errors import InputError
from gptzoo.sampling.choice import Choice, check, draw, likeliest, log_probabilities
from gptzoo.sampling.endings import End, Endings
from gptzoo.sampling.processors import build_processors, processed
from gptzoo.sampling.row import Row
from gptzoo.sampling.spec import SamplingSpec
from gptzoo.sampling.states import first_rows, put_row
from gptzoo.seeds import derive


@dataclass(frozen=True)
class Request:
    """A prompt and how to go on from it, `n_samples` times.

    What is written depends on the tokens, the spec and the number of the sample alone, whatever runs beside it.
    """

    tokens: Sequence[int]
    spec: SamplingSpec = field(default_factory=SamplingSpec)
    id: Hashable = None
    """Left out, the engine gives it one."""
    n_samples: int = 1
    first_sample: int = 0
    """The number of the first sample, which with the seed decides what it draws."""
    n_likeliest: int = 0
    """So many of the tokens that the model finds likeliest are told with each that is chosen."""


class Event(NamedTuple):
    """What happened to one sample of a request in a step: a token, its end, or both."""

    request: Any  # its id
    sample: int  # 0 to n_samples - 1
    choice: Choice | None  # None: it ended without one
    end: End | None = None
    error: InputError | None = None  # of the request's own, by which it ended


@dataclass(eq=False)
class _Text:
    """One sample that waits or is being written."""

    request: Request
    id: Hashable
    sample: int
    row: Row
    endings: Endings
    generator: torch.Generator
    position: int = 0  # of the next token that the model is fed
    ended: bool = False


class Engine:
    """Continuous batching over `n_rows` rows of up to `max_length` tokens each, prompt included.

    `submit` requests at any time, then `step` as long as the engine is `busy`. All memory for states is taken at the
    start. Samples of one prompt read it once. Prompts may have any lengths: each is read without padding, and rows
    stand at positions of their own. The engine belongs to one thread, and puts the model in eval mode.

    max_length: left out, it is as far as positions reach, else context_length.
    """

    def __init__(
        self,
        model: Architecture,
        tokenizer: Tokenizer | None = None,
        *,
        n_rows: int = 8,
        max_length: int | None = None,
    ):
        self.model = model.eval()
        self.tokenizer = tokenizer
        self.n_rows = n_rows
        self.max_length = max_length or model.max_length or model.spec.context_length
        self._device = next(model.parameters()).device
        with torch.inference_mode():
            self._states = model.new_rows(n_rows, self.max_length)
        self._views = {n_rows: self._states}
        self._waiting: deque[_Text] = deque()
        self._writing: list[_Text] = []  # number i is in row i of the states
        self._read: dict[tuple[int, ...], tuple[Primed, int]] = {}  # prompts of which samples wait, and in which row
        self._ids = itertools.count()
        self._last: Endings | None = None  # of the last request

    @property
    def busy(self) -> bool:
        """Whether any sample waits or is being written."""
        return bool(self._waiting or self._writing)

    @property
    def n_writing(self) -> int:
        """Rows in use."""
        return len(self._writing)

    @property
    def n_waiting(self) -> int:
        """Samples that wait for a row."""
        return len(self._waiting)

    def submit(self, request: Request) -> Hashable:
        """Queue a request; its id. Raises InputError for what cannot be written to its end, before any of it is.

        That is an empty prompt, an id outside the vocabulary, more tokens than positions or the engine's rows reach,
        and stop texts or a processor that lack their tokenizer.
        """
        check(self.model, [request.tokens], request.spec)
        length = len(request.tokens) + request.spec.max_new_tokens
        if length > self.max_length:
            raise InputError(
                f"a prompt of {len(request.tokens)} tokens and {request.spec.max_new_tokens} new ones are {length} "
                f"together, and the engine's rows have room for {self.max_length}: ask for fewer, or give the engine "
                "a larger max_length"
            )
        if self._last is None or self._last.spec is not request.spec:  # requests of one spec are processed together
            processors = build_processors(request.spec.processors, self.tokenizer)
            self._last = Endings(request.spec, processors, self.tokenizer)
        own = next(self._ids) if request.id is None else request.id
        for sample in range(request.n_samples):
            seed = derive(request.spec.seed, "sample", request.first_sample + sample)
            row = Row(list(request.tokens), len(request.tokens))
            generator = torch.Generator().manual_seed(seed)
            self._waiting.append(_Text(request, own, sample, row, self._last, generator))
        return own

    @torch.inference_mode()
    def cancel(self, request: Hashable) -> bool:
        """Drop all samples of a request, and tell whether there were any; they have no more events."""
        before = len(self._waiting) + len(self._writing)
        self._waiting = deque(text for text in self._waiting if text.id != request)
        for text in self._writing:
            text.ended |= text.id == request
        self._close_ranks()
        return len(self._waiting) + len(self._writing) < before

    @torch.inference_mode()
    def step(self) -> list[Event]:
        """One token more for every row in use; then rows that are free read waiting prompts and get their first."""
        events = self._choose(self._writing, self._decode()) if self._writing else []
        while self._waiting and len(free := self._free_rows()) > 0:
            events += self._seat(free)
        self._close_ranks()
        return events

    def _free_rows(self) -> list[int]:
        ended = [index for index, text in enumerate(self._writing) if text.ended]
        return [*ended, *range(len(self._writing), self.n_rows)]

    def _seat(self, free: Sequence[int]) -> list[Event]:
        """Give rows to the first that wait, as many as are of one length, and choose their first tokens."""
        first = self._waiting[0]
        if reason := first.endings.reason(first.row):  # nothing is to be written
            self._waiting.popleft()
            return [Event(first.id, first.sample, None, reason)]
        length = first.row.prompt_length
        seated = [text for text in itertools.islice(self._waiting, len(free)) if text.row.prompt_length == length]
        taken = set(seated)
        self._waiting = deque(text for text in self._waiting if text not in taken)
        try:
            self._prime({tuple(text.request.tokens) for text in seated} - self._read.keys())
        except InputError as error:
            return [_failed(text, error) for text in seated]
        logits = []
        for index, text in zip(free, seated, strict=False):
            primed, row = self._read[tuple(text.request.tokens)]
            put_row(self._states, index, primed.states, row)
            logits.append(primed.logits[row])
            text.position = int(primed.positions.expand(len(primed.logits), -1)[row])
            if index < len(self._writing):
                self._writing[index] = text
            else:
                self._writing.append(text)
        wanted = {tuple(text.request.tokens) for text in self._waiting}
        self._read = {prompt: read for prompt, read in self._read.items() if prompt in wanted}
        return self._choose(seated, torch.stack(logits))

    def _prime(self, prompts: set[tuple[int, ...]]) -> None:
        """Read prompts of one length side by side."""
        if not prompts:
            return
        order = sorted(prompts)
        states = self.model.new_rows(len(order), self.max_length)
        primed = self.model.prime(order, self.max_length - len(order[0]), states=states)
        self._read |= {prompt: (primed, row) for row, prompt in enumerate(order)}

    def _decode(self) -> Tensor:
        """Feed every row its last token; the logits (B, V) of the next."""
        n = len(self._writing)
        if n not in self._views:
            self._views[n] = first_rows(self._states, n)
        positions = [text.position for text in self._writing]
        if len(set(positions)) == 1:  # one row of positions does for all
            positions = positions[:1]
        tokens = torch.tensor([[text.row.tokens[-1]] for text in self._writing], device=self._device)
        at = torch.tensor(positions, device=self._device)[:, None]
        logits, _ = self.model(tokens, positions=at, states=self._views[n])
        for text in self._writing:
            text.position += 1
        return logits[:, -1]

    def _choose(self, texts: Sequence[_Text], logits: Tensor) -> list[Event]:
        """The next token of each text from the model's logits (B, V)."""
        logits = logits.float()
        left, errors = _process(texts, logits)
        tokens = draw(left, [text.generator for text in texts])
        scores = log_probabilities(logits, tokens)
        events = []
        for index, (text, token, score) in enumerate(zip(texts, tokens, scores, strict=True)):
            if index in errors:
                events.append(_failed(text, errors[index]))
                continue
            text.row.tokens.append(token)
            end = text.endings.reason(text.row)
            text.ended = end is not None
            beside = likeliest(logits[index], text.request.n_likeliest) if text.request.n_likeliest else {}
            events.append(Event(text.id, text.sample, Choice(token, score, end, beside), end))
        return events

    def _close_ranks(self) -> None:
        """Move the last rows to where texts have ended, so that those in use are the first ones."""
        index = 0
        while index < len(self._writing):
            if not self._writing[index].ended:
                index += 1
                continue
            last = self._writing.pop()
            if index < len(self._writing):  # what moved may have ended as well: look again
                if not last.ended:
                    put_row(self._states, index, self._states, len(self._writing))
                self._writing[index] = last


def _process(texts: Sequence[_Text], logits: Tensor) -> tuple[Tensor, dict[int, InputError]]:
    """Logits (B, V) as the processors of each text leave them, those of one spec together; and what failed."""
    groups: dict[int, list[int]] = {}
    for index, text in enumerate(texts):
        groups.setdefault(id(text.endings), []).append(index)
    errors: dict[int, InputError] = {}
    parts = []
    for indices in groups.values():
        part = logits if len(groups) == 1 else logits[indices]
        try:
            part = processed(texts[indices[0]].endings.processors, part, [texts[index].row for index in indices])
        except InputError as error:
            errors |= dict.fromkeys(indices, error)
        parts.append(part)
    if len(groups) == 1:
        return parts[0], errors
    back = torch.tensor(list(itertools.chain(*groups.values())), device=logits.device).argsort()
    return torch.cat(parts)[back], errors


def _failed(text: _Text, error: InputError) -> Event:
    text.ended = True
    return Event(text.id, text.sample, None, error=error)
