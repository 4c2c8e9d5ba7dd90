"""Many prompts through one model: rows of one batch that are refilled as soon as a text ends.

What a row keeps belongs to the components; nothing of it is known here (`gptzoo.sampling.engine.kv_cache_manager`).
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Hashable, Sequence

import torch
from torch import Tensor

from gptzoo.data.tokenizers.tokenizer import Tokenizer
from gptzoo.errors import InputError
from gptzoo.model.architecture import Architecture
from gptzoo.sampling.engine.kv_cache_manager import KVCacheManager
from gptzoo.sampling.engine.speculative import Draft, Proposal, check_reach, verified
from gptzoo.sampling.engine.stopping import StoppingCriteria
from gptzoo.sampling.engine.token_choice import Choice, check, draw, likeliest, log_probabilities
from gptzoo.sampling.processors.processor import build_processors
from gptzoo.sampling.request import Event, Request, Text, process
from gptzoo.sampling.sequence import TokenSequence
from gptzoo.utils.seeds import derive


class Engine:
    """Continuous batching over `n_rows` rows of up to `max_length` tokens each, prompt included.

    `submit` requests at any time, then `step` as long as the engine is `busy`. All memory for states is taken at the
    start. Samples of one prompt read it once. Prompts may have any lengths: each is read without padding, and rows
    stand at positions of their own. The engine belongs to one thread, and puts the model in eval mode.

    max_length: left out, it is as far as positions reach, else context_length.
    draft: a smaller model of the same vocabulary, which proposes tokens for the requests that have `n_ahead`. Then rows
    accept different numbers of tokens in a step. Raises InputError for models that do not go together.
    """

    def __init__(
        self,
        model: Architecture,
        tokenizer: Tokenizer | None = None,
        *,
        n_rows: int = 8,
        max_length: int | None = None,
        draft: Architecture | None = None,
    ):
        self.model = model
        self.tokenizer = tokenizer
        self.n_rows = n_rows
        self.max_length = max_length or model.max_length or model.spec.context_length
        self._draft = None if draft is None else Draft(draft, model, n_rows, self.max_length)
        self._reader = KVCacheManager(model, n_rows, self.max_length)
        self._readers = [self._reader] if self._draft is None else [self._reader, self._draft.reader]
        self._waiting: deque[Text] = deque()
        self._writing: list[Text] = []  # number i is in row i of the readers
        self._ids = itertools.count()
        self._last: StoppingCriteria | None = None  # of the last request

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
        and stop texts, a processor or tokens ahead that lack their tokenizer or draft model.
        """
        self._check(request)
        if self._last is None or self._last.spec is not request.spec:  # requests of one spec are processed together
            processors = build_processors(request.spec.processors, self.tokenizer)
            self._last = StoppingCriteria(request.spec, processors, self.tokenizer)
        own = next(self._ids) if request.id is None else request.id
        for sample in range(request.n_samples):
            seed = derive(request.spec.seed, "sample", request.first_sample + sample)
            row = TokenSequence(list(request.tokens), len(request.tokens))
            generator = torch.Generator().manual_seed(seed)
            self._waiting.append(Text(request, own, sample, row, self._last, generator))
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
        """One token more for every row in use, or several that a draft proposed, those of a row in order.

        Then rows that are free read waiting prompts and get their first.
        """
        events = self._write() if self._writing else []
        while self._waiting and len(free := self._free_rows()) > 0:
            events += self._seat(free)
        self._close_ranks()
        return events

    def _check(self, request: Request) -> None:
        check(self.model, [request.tokens], request.spec)
        length = len(request.tokens) + request.spec.max_new_tokens
        if length > self.max_length:
            raise InputError(
                f"a prompt of {len(request.tokens)} tokens and {request.spec.max_new_tokens} new ones are {length} "
                f"together, and the engine's rows have room for {self.max_length}: ask for fewer, or give the engine "
                "a larger max_length"
            )
        if request.n_ahead and self._draft is None:
            raise InputError("there is no draft model to propose tokens ahead: give the engine a `draft`")
        if request.n_ahead and self._draft is not None:
            check_reach(self._draft.model, request.tokens, request.spec)

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
            self._reader.prefill({text.prompt for text in seated})
            if self._draft is not None:
                self._draft.reader.prefill({text.prompt for text in seated if text.request.n_ahead})
        except InputError as error:
            return [_failed(text, error) for text in seated]
        logits = []
        for row, text in zip(free, seated, strict=False):
            logits.append(self._reader.seat(row, text.prompt))
            if self._draft is not None and text.request.n_ahead:
                self._draft.seat(row, text)
            self._writing[row : row + 1] = [text]
        for reader in self._readers:
            reader.forget({text.prompt for text in self._waiting})
        return self._choose(seated, torch.stack(logits))

    def _write(self) -> list[Event]:
        """What the model makes of the last token of every row, and of the tokens that the draft proposes after it."""
        texts = self._writing
        proposed = [[] for _ in texts] if self._draft is None else self._draft.propose(texts)
        if any(proposed):
            self._reader.mark(len(texts))
        n_read = [len(text.row.tokens) + len(ahead) for text, ahead in zip(texts, proposed, strict=True)]
        logits = self._reader.read(
            [[text.row.tokens[-1], *(token for token, _ in ahead)] for text, ahead in zip(texts, proposed, strict=True)]
        )
        events: list[Event] = []
        going = list(range(len(texts)))
        for place in range(logits.shape[1]):
            columns = [place - 1 - len(proposed[index]) for index in going]  # a row's own are the last ones
            here = logits[going, columns] if logits.shape[1] > 1 else logits[:, 0]
            at = [proposed[index][place] if place < len(proposed[index]) else None for index in going]
            events += self._choose([texts[index] for index in going], here, at)
            going = [
                index
                for index, proposal in zip(going, at, strict=True)
                if proposal is not None and not texts[index].ended and texts[index].row.tokens[-1] == proposal.token
            ]
            if not going:
                break
        if self._draft is not None:
            self._reader.take_back([n + 1 - len(text.row.tokens) for text, n in zip(texts, n_read, strict=True)])
            self._draft.settle(texts)
        return events

    def _choose(self, texts: Sequence[Text], logits: Tensor, proposals: Sequence[Proposal | None] = ()) -> list[Event]:
        """The next token of each text from the model's logits (B, V)."""
        logits = logits.float()
        left, errors = process(texts, logits)
        generators = [text.generator for text in texts]
        tokens = verified(left, proposals, generators) if any(proposals) else draw(left, generators)
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
                    for reader in self._readers:
                        reader.move(index, len(self._writing))
                self._writing[index] = last


def _failed(text: Text, error: InputError) -> Event:
    text.ended = True
    return Event(text.id, text.sample, None, error=error)
