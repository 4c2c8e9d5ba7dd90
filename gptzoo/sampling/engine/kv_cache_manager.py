"""`KVCacheManager`: prefill and decode of one model, with a KV cache of a fixed number of slots."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import torch
from torch import Tensor

from gptzoo.model.architecture import Architecture, PrefillOutput
from gptzoo.sampling.compile.cuda_graphs import CudaGraphRunner
from gptzoo.sampling.compile.decode_step import is_compiled
from gptzoo.sampling.state_rows import States, clone_states, copy_row, view_first_rows
from gptzoo.utils.transfer import tensor_on

Prompt = tuple[int, ...]  # token ids


class KVCacheManager:
    """A model and the states of up to `n_slots` sequences of up to `max_length` tokens each.

    A slot is a row of the batch, and the slots in use are the first ones. Every slot has its own position. The states
    belong to the model's components: the manager copies and moves rows of them and does not look inside, so it serves a
    KV cache, a ring buffer or a recurrent state. Use it in inference mode.
    """

    def __init__(self, model: Architecture, n_slots: int, max_length: int):
        self.model = model.eval()
        self.max_length = max_length
        with torch.inference_mode():
            self.states = model.new_slot_states(n_slots, max_length)
        self.supports_rollback = _supports_rollback(model, self.states)
        self._device = next(model.parameters()).device
        self._cuda_graphs = CudaGraphRunner(model) if self._device.type == "cuda" and is_compiled(model) else None
        self._views: dict[int, States] = {n_slots: self.states}  # by number of slots in use
        self._positions = [0] * n_slots  # of the next token of each slot
        self._prefilled: dict[Prompt, tuple[PrefillOutput, int]] = {}  # the output and the prompt's row in it
        self._decoded: list[list[int]] | None = None  # tokens of each slot since the snapshot
        self._snapshot: States = []

    def prefill(self, prompts: Collection[Prompt]) -> None:
        """Prefill prompts of one length in one forward pass, and keep the result for `assign_slot`.

        Prompts whose result is kept already are skipped. Raises InputError if the model cannot read a prompt.
        """
        if new := sorted(set(prompts) - self._prefilled.keys()):
            states = self.model.new_slot_states(len(new), self.max_length)
            output = self.model.prefill(new, self.max_length - len(new[0]), states=states)
            self._prefilled |= {prompt: (output, row) for row, prompt in enumerate(new)}

    def keep_prefilled(self, prompts: Collection[Prompt]) -> None:
        """Free the prefill results of all prompts except these."""
        self._prefilled = {prompt: result for prompt, result in self._prefilled.items() if prompt in prompts}

    def assign_slot(self, slot: int, prompt: Prompt) -> Tensor:
        """Copy a prefilled prompt into a slot and return the logits (V,) of its first new token."""
        output, row = self._prefilled[prompt]
        copy_row(self.states, slot, output.states, row)
        self._positions[slot] = int(output.positions.expand(len(output.logits), -1)[row])
        return output.logits[row]

    def move_slot(self, target: int, source: int) -> None:
        """Move the sequence in slot `source` to slot `target`."""
        self.copy_slot(target, self, source)

    def copy_slot(self, target: int, other: KVCacheManager, source: int) -> None:
        """Copy the sequence in slot `source` of another manager of the same model to slot `target`."""
        copy_row(self.states, target, other.states, source)
        self._positions[target] = other._positions[source]

    def decode(self, tokens: Sequence[Sequence[int]]) -> Tensor:
        """Append tokens to each of the first slots and return the logits (B, T, V) after each token.

        `tokens[slot]` are the new tokens of a slot. Their numbers may differ and may be 0: shorter rows are padded on
        the left, so the logits of a slot are the last `len(tokens[slot])` of its row.
        """
        n_slots, longest = len(tokens), max(map(len, tokens))
        padded_ids, padded_positions = [], []
        for slot, new in enumerate(tokens):
            n_padding, start = longest - len(new), self._positions[slot]
            padded_ids.append([*[0] * n_padding, *new])
            padded_positions.append([*[-1] * n_padding, *range(start, start + len(new))])
            self._positions[slot] += len(new)
            if self._decoded is not None:
                self._decoded[slot] += new
        if all(row == padded_positions[0] for row in padded_positions):  # one row of positions is cheaper to embed
            padded_positions = padded_positions[:1]
        if self._cuda_graphs is not None and longest == 1:
            return self._replay(padded_ids, padded_positions)
        ids, positions = tensor_on(self._device, padded_ids), tensor_on(self._device, padded_positions)
        logits: Tensor
        logits, _ = self.model(ids, positions=positions, states=self._view(n_slots))
        return logits

    def _replay(self, ids: list[list[int]], positions: list[list[int]]) -> Tensor:
        """Decode one token of each of the first slots with a CUDA graph of at least as many slots.

        Further slots of the graph are free. They get a token at position 0, which the next prompt overwrites.
        """
        assert self._cuda_graphs is not None
        n = len(ids)
        batch_size = self._cuda_graphs.batch_size(n, len(self._positions))
        free = [[0]] * (batch_size - n)
        every_position = positions * n if len(positions) == 1 else positions
        ids_tensor, positions_tensor = (
            tensor_on(self._device, rows) for rows in ([*ids, *free], [*every_position, *free])
        )
        return self._cuda_graphs(ids_tensor, positions_tensor, self._view(batch_size))[:n]

    def _view(self, n_slots: int) -> States:
        """Return the states of the first slots; always the same tensors for the same number."""
        if n_slots not in self._views:
            self._views[n_slots] = view_first_rows(self.states, n_slots)
        return self._views[n_slots]

    def snapshot(self, n_slots: int) -> None:
        """Record the state to which `rollback` returns the first `n_slots` slots."""
        self._decoded = [[] for _ in range(n_slots)]
        if not self.supports_rollback:
            self._snapshot = clone_states(view_first_rows(self.states, n_slots))

    def rollback(self, n_tokens: Sequence[int]) -> None:
        """Undo the last `n_tokens[slot]` tokens that each slot decoded since the snapshot, and drop the snapshot.

        Without a snapshot this does nothing.
        """
        decoded, self._decoded = self._decoded, None
        snapshot, self._snapshot = self._snapshot, []
        if decoded is None or not any(n_tokens):
            return
        if self.supports_rollback:  # entries beyond the position are masked, and overwritten later
            for slot, n in enumerate(n_tokens):
                self._positions[slot] -= n
            return
        replayed: list[list[int]] = [[] for _ in decoded]
        for slot, n in enumerate(n_tokens):
            if n:
                copy_row(self.states, slot, snapshot, slot)
                self._positions[slot] -= len(decoded[slot])
                replayed[slot] = decoded[slot][:-n]
        if any(replayed):
            self.decode(replayed)


def _supports_rollback(model: Architecture, states: States) -> bool:
    """Return True if every sublayer with a state can continue from an earlier position."""
    blocks = getattr(model, "blocks", None)
    return blocks is not None and all(
        getattr(block, name).supports_rollback for block, layer in zip(blocks, states, strict=True) for name in layer
    )
