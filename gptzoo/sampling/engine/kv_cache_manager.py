"""A model and what it keeps of the rows of one batch: it reads on in each, and can take back what it has read."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import torch
from torch import Tensor

from gptzoo.model.architecture import Architecture, PrefillOutput
from gptzoo.sampling.compile.cuda_graphs import StepGraphs
from gptzoo.sampling.compile.decode_step import is_compiled
from gptzoo.sampling.engine.state_rows import States, copied, first_rows, put_row

Prompt = tuple[int, ...]


class KVCacheManager:
    """`n_rows` rows of up to `max_length` tokens each in the states of one model; those in use are the first ones.

    A row stands at a position of its own. What it keeps belongs to the components: rows of it are cloned and moved,
    and nothing else is known of it. Use it in inference mode.
    """

    def __init__(self, model: Architecture, n_rows: int, max_length: int):
        self.model = model.eval()
        self.max_length = max_length
        with torch.inference_mode():
            self.states = model.new_slot_states(n_rows, max_length)
        self.supports_rollback = _rolls_back(model, self.states)
        self._device = next(model.parameters()).device
        self._graphs = StepGraphs(model) if self._device.type == "cuda" and is_compiled(model) else None
        self._views = {n_rows: self.states}
        self._positions = [0] * n_rows  # of the next token that the model is fed
        self._primed: dict[Prompt, tuple[PrefillOutput, int]] = {}  # prompts that were read, and in which row
        self._since: list[list[int]] | None = None  # what each row has read since the mark
        self._marked: States = []  # as they were then

    def prefill(self, prompts: Collection[Prompt]) -> None:
        """Read prompts of one length side by side, for `seat`, but for those that it holds. Raises InputError."""
        if new := sorted(set(prompts) - self._primed.keys()):
            states = self.model.new_slot_states(len(new), self.max_length)
            primed = self.model.prefill(new, self.max_length - len(new[0]), states=states)
            self._primed |= {prompt: (primed, row) for row, prompt in enumerate(new)}

    def forget(self, wanted: Collection[Prompt]) -> None:
        """Hold none of the prompts but these."""
        self._primed = {prompt: read for prompt, read in self._primed.items() if prompt in wanted}

    def seat(self, row: int, prompt: Prompt) -> Tensor:
        """Put a prompt that was primed into a row; the logits (V,) of the token after it."""
        primed, source = self._primed[prompt]
        put_row(self.states, row, primed.states, source)
        self._positions[row] = int(primed.positions.expand(len(primed.logits), -1)[source])
        return primed.logits[source]

    def move(self, row: int, source: int) -> None:
        """Put what one row holds into another."""
        put_row(self.states, row, self.states, source)
        self._positions[row] = self._positions[source]

    def read(self, tokens: Sequence[Sequence[int]]) -> Tensor:
        """Read on in the first rows; the logits (B, T, V) of what follows each token, a row's last ones at the end.

        Rows may get different numbers of tokens, and none: the shorter are padded on the left.
        """
        n_rows, longest = len(tokens), max(map(len, tokens))
        if n_rows not in self._views:
            self._views[n_rows] = first_rows(self.states, n_rows)
        ids, places = [], []
        for row, new in enumerate(tokens):
            padding, start = longest - len(new), self._positions[row]
            ids.append([*[0] * padding, *new])
            places.append([*[-1] * padding, *range(start, start + len(new))])
            self._positions[row] += len(new)
            if self._since is not None:
                self._since[row] += new
        if all(place == places[0] for place in places):  # one row of positions does for all
            places = places[:1]
        new_ids = torch.tensor(ids, device=self._device)
        positions = torch.tensor(places, device=self._device)
        if self._graphs is not None and longest == 1:
            return self._graphs(new_ids, positions, self._views[n_rows])
        logits: Tensor
        logits, _ = self.model(new_ids, positions=positions, states=self._views[n_rows])
        return logits

    def mark(self, n_rows: int) -> None:
        """From here on, of the first rows, `take_back` can unread what is read."""
        self._since = [[] for _ in range(n_rows)]
        if not self.supports_rollback:
            self._marked = copied(first_rows(self.states, n_rows))

    def take_back(self, n_tokens: Sequence[int]) -> None:
        """Unread the last `n_tokens[row]` of what each row has read since the mark; there may be none."""
        since, self._since = self._since, None
        marked, self._marked = self._marked, []
        if since is None or not any(n_tokens):
            return
        if self.supports_rollback:  # what was written behind is not seen, and written over
            for row, n in enumerate(n_tokens):
                self._positions[row] -= n
            return
        again: list[list[int]] = [[] for _ in since]
        for row, n in enumerate(n_tokens):
            if n:
                put_row(self.states, row, marked, row)
                self._positions[row] -= len(since[row])
                again[row] = since[row][:-n]
        if any(again):
            self.read(again)


def _rolls_back(model: Architecture, states: States) -> bool:
    """Whether every part that keeps something says that it can go on from an earlier position."""
    blocks = getattr(model, "blocks", None)
    return blocks is not None and all(
        getattr(block, name).supports_rollback for block, layer in zip(blocks, states, strict=True) for name in layer
    )
