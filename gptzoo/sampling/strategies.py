"""The ways to write a text: drawn at random, by beam search, by contrastive search, or with a draft model's help."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from gptzoo.checkpoint.model_folder import Loaded
from gptzoo.errors import InputError
from gptzoo.sampling.engine.engine import Engine
from gptzoo.sampling.engine.speculative import check_reach
from gptzoo.sampling.engine.token_choice import Choice, check
from gptzoo.sampling.generate import stream
from gptzoo.sampling.request import Request
from gptzoo.sampling.search.beam import beam_search
from gptzoo.sampling.search.contrastive import contrastive_search
from gptzoo.sampling.spec import SamplingSpec
from gptzoo.sampling.text import Sample, Writing, encode_prompt, likeliest, sample_rows, tokenizer_of


class Strategy:
    """Base of the ways: text in, text out, with one model and one spec.

    A sample depends on its prompt, its number and the spec alone, not on what is written beside it.
    """

    def __init__(self, loaded: Loaded, spec: SamplingSpec, *, as_room: bool = False):
        """as_room: write fewer than `max_new_tokens` after a prompt that does not leave room for so many."""
        self.loaded, self.spec, self.as_room = loaded, spec, as_room
        self.tokenizer = tokenizer_of(loaded)

    def describe(self) -> dict[str, Any]:
        """Its name and options, as JSON values."""
        return {"type": type(self).__name__.lower()}

    def rows(self, ids: Sequence[int], spec: SamplingSpec, n: int) -> Iterator[Iterable[Choice]]:
        """The tokens of each of `n` samples after a prompt, one sample after the other."""
        raise TypeError(f"{type(self).__name__} does not implement rows")

    def refuse(self, prompt: str, n: int) -> None:
        """Raise InputError for `n` samples that cannot be written, before anything is computed."""
        self.refuse_count(n)
        self._read(prompt)

    def refuse_count(self, n: int) -> None:
        """Raise InputError where it cannot give `n` samples of one prompt."""

    def stream(self, prompt: str) -> Iterator[str]:
        """The first sample in pieces, each of whole characters."""
        ids, spec = self._read(prompt)
        writing = Writing(self.tokenizer, spec)
        for choice in next(iter(self.rows(ids, spec, 1))):
            yield writing.feed(choice)

    def samples(self, prompt: str, n: int = 1, best_of: int | None = None) -> list[Sample]:
        """`n` samples after a prompt; with `best_of`, the likeliest of so many, the best first."""
        ids, spec = self._read(prompt)
        samples = self._samples(ids, spec, best_of or n)
        return samples if best_of is None else likeliest(samples, n)

    def many(
        self, prompts: Sequence[str], n: int = 1, best_of: int | None = None, n_rows: int = 8
    ) -> Iterator[tuple[int, list[Sample]]]:
        """The samples after each of many prompts, with the index of the prompt, as soon as they are there.

        n_rows: texts that are written side by side, by a strategy that can.
        """
        for index, prompt in enumerate(prompts):
            yield index, self.samples(prompt, n, best_of)

    def _samples(self, ids: Sequence[int], spec: SamplingSpec, n: int) -> list[Sample]:
        samples = []
        rows = self.rows(ids, spec, n)
        writing = Writing(self.tokenizer, spec)
        for row in rows:
            for choice in row:
                writing.feed(choice)
            samples.append(writing.sample())
            writing = Writing(self.tokenizer, spec)
        return samples

    def _read(self, prompt: str) -> tuple[list[int], SamplingSpec]:
        ids, spec = encode_prompt(self.loaded, prompt), self.spec
        room = self._room(len(ids)) if self.as_room else None
        if room is not None and 0 < room < spec.max_new_tokens:
            spec = spec.model_copy(update={"max_new_tokens": room})
        check(self.loaded.model, [ids], spec)
        return ids, spec

    def _room(self, prompt_length: int) -> int | None:
        return self.loaded.model.remaining_length(prompt_length)


class Sampling(Strategy):
    """Draws each token from what the processors of the spec leave; all samples of a prompt side by side."""

    draft: Loaded | None = None
    n_ahead = 0

    def rows(self, ids: Sequence[int], spec: SamplingSpec, n: int) -> Iterator[Iterable[Choice]]:
        for number in range(n):
            steps = stream(self.loaded.model, [ids], spec, self.tokenizer, streams=[number], **self._ahead())
            yield (choice for (choice,) in steps if choice is not None)

    def _samples(self, ids: Sequence[int], spec: SamplingSpec, n: int) -> list[Sample]:
        return sample_rows(self.loaded, [ids] * n, spec, **self._ahead())

    def _ahead(self) -> dict[str, Any]:
        """What `gptzoo.stream` is told of the draft."""
        return {} if self.draft is None else {"draft": self.draft.model, "n_ahead": self.n_ahead}

    def many(
        self, prompts: Sequence[str], n: int = 1, best_of: int | None = None, n_rows: int = 8
    ) -> Iterator[tuple[int, list[Sample]]]:
        """By the engine: as soon as a text ends, the next prompt takes its row."""
        if not prompts:
            return
        waiting = deque(enumerate(map(self._read, prompts)))
        longest = max(len(ids) + spec.max_new_tokens for _, (ids, spec) in waiting)
        draft = None if self.draft is None else self.draft.model
        engine = Engine(self.loaded.model, self.tokenizer, n_rows=n_rows, max_length=longest, draft=draft)
        writings: dict[int, list[Writing]] = {}
        n_open: Counter[int] = Counter()
        while waiting or engine.busy:
            while waiting and engine.n_waiting < n_rows:  # no sooner, so that its clock starts when its turn comes
                index, (ids, spec) = waiting.popleft()
                engine.submit(Request(ids, spec, id=index, n_samples=best_of or n, n_ahead=self.n_ahead))
                writings[index] = [Writing(self.tokenizer, spec) for _ in range(best_of or n)]
                n_open[index] = best_of or n
            for event in engine.step():
                if event.error is not None:
                    raise event.error
                if event.choice is not None:
                    writings[event.request][event.sample].feed(event.choice)
                n_open[event.request] -= event.end is not None
                if not n_open[event.request]:
                    samples = [writing.sample() for writing in writings.pop(event.request)]
                    yield event.request, samples if best_of is None else likeliest(samples, n)


class Speculative(Sampling):
    """Draws from the same distribution, in fewer passes of the model, with a smaller one that proposes tokens."""

    def __init__(self, loaded: Loaded, spec: SamplingSpec, draft: Loaded, n_ahead: int = 4, **how: Any):
        super().__init__(loaded, spec, **how)
        self.draft, self.n_ahead = draft, n_ahead
        check_draft(loaded, draft)

    def describe(self) -> dict[str, Any]:
        assert self.draft is not None
        return {**super().describe(), "draft": str(self.draft.folder), "n_ahead": self.n_ahead}

    def _read(self, prompt: str) -> tuple[list[int], SamplingSpec]:
        ids, spec = super()._read(prompt)
        assert self.draft is not None
        check_reach(self.draft.model, ids, spec)
        return ids, spec

    def _room(self, prompt_length: int) -> int | None:
        assert self.draft is not None
        rooms = super()._room(prompt_length), self.draft.model.remaining_length(prompt_length)
        return min((room for room in rooms if room is not None), default=None)


def check_draft(loaded: Loaded, draft: Loaded) -> None:
    """Raise InputError for a draft model that has another tokenizer."""
    if draft.tokenizer is None or draft.tokenizer.fingerprint() != tokenizer_of(loaded).fingerprint():
        raise InputError(
            f"{draft.folder}: its tokenizer is another than that of {loaded.folder}; a draft model must share it"
        )


class Contrastive(Strategy):
    """Takes the likely token that repeats the text before the least. There is one sample."""

    def __init__(self, loaded: Loaded, spec: SamplingSpec, alpha: float = 0.6, n_candidates: int = 4, **how: Any):
        super().__init__(loaded, spec, **how)
        self.alpha, self.n_candidates = alpha, n_candidates

    def describe(self) -> dict[str, Any]:
        return {**super().describe(), "alpha": self.alpha, "n_candidates": self.n_candidates}

    def refuse_count(self, n: int) -> None:
        if n > 1:
            raise InputError("contrastive search draws nothing at random: it has one sample of each prompt")

    def rows(self, ids: Sequence[int], spec: SamplingSpec, n: int) -> Iterator[Iterable[Choice]]:
        how = self.alpha, self.n_candidates
        for _ in range(n):
            yield contrastive_search(self.loaded.model, ids, spec, self.tokenizer, *how)


class Beams(Strategy):
    """Searches the likeliest texts. Its samples are the beams, the best first; there may be fewer than asked for."""

    def __init__(self, loaded: Loaded, spec: SamplingSpec, n_beams: int = 4, length_penalty: float = 1.0, **how: Any):
        super().__init__(loaded, spec, **how)
        self.n_beams, self.length_penalty = n_beams, length_penalty

    def describe(self) -> dict[str, Any]:
        return {**super().describe(), "n_beams": self.n_beams, "length_penalty": self.length_penalty}

    def refuse_count(self, n: int) -> None:
        if n > self.n_beams:
            raise InputError(f"{self.n_beams} beams cannot give {n} samples; ask for more beams")

    def rows(self, ids: Sequence[int], spec: SamplingSpec, n: int) -> Iterator[Iterable[Choice]]:
        found = beam_search(self.loaded.model, ids, spec, self.tokenizer, self.n_beams, self.length_penalty)
        yield from (beam.choices for beam in found[:n])
