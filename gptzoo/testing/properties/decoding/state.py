"""What a sublayer keeps between two calls can be reordered, reset and rolled back without knowing the sublayer."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from gptzoo.testing.compare import CLOSE, distance
from gptzoo.testing.properties.decoding.cached_decoding import decode
from gptzoo.testing.subject import HOST, PartSubject
from gptzoo.testing.verdict import Failed, Skipped

LENGTH = 8


def state(subject: PartSubject) -> None:
    """State is a dict of tensors, batch first, of fixed shapes, updated in place, that can be made on meta."""
    model = subject.model()
    by_size = {size: dict(_tensors(model.new_states(size, LENGTH))) for size in (2, 3)}
    if not by_size[2]:
        raise Skipped("it keeps no state")
    for name, tensor in by_size[2].items():
        if not isinstance(tensor, Tensor):
            raise Failed(f"{name} is a {type(tensor).__name__}, not a tensor: a counter would not follow its row")
        shapes = [tuple(by_size[size][name].shape) for size in (2, 3)]
        if not tensor.ndim or [shape[0] for shape in shapes] != [2, 3] or shapes[0][1:] != shapes[1][1:]:
            raise Failed(f"{name} is not batch first: for 2 and 3 rows its shapes are {shapes[0]} and {shapes[1]}")
    states = model.new_states(2, LENGTH)
    before = {name: (tensor, tensor.shape, tensor.dtype) for name, tensor in _tensors(states)}
    _step(model, subject.tokens(2, 2), torch.arange(2)[None], states)
    _step(model, subject.tokens(2, 1), torch.tensor([[2]]), states)
    for name, tensor in _tensors(states):
        if tensor is not before[name][0]:
            raise Failed(f"{name} is replaced by a forward; write into it: a CUDA graph keeps the old one")
    for name, tensor in _tensors(model.new_states(1, LENGTH, device="meta")):
        if not tensor.is_meta:
            raise Failed(f"{name} is made on {tensor.device}, although meta was asked for")


def reorder(subject: PartSubject) -> None:
    """Taking rows of the state takes rows of the batch, as a beam search does."""
    model, tokens = subject.model(dtype=torch.float64), subject.tokens(3, LENGTH)
    states = model.new_states(3, LENGTH)
    if not dict(_tensors(states)):
        raise Skipped("it keeps no state")
    order = torch.tensor([2, 0, 0])
    _step(model, tokens[:, :4], torch.arange(4)[None], states)
    for _, tensor, hold in _slots(states):
        hold(tensor[order].clone())
    logits = _step(model, tokens[order, 4:], torch.arange(4, LENGTH)[None], states)
    difference = distance(logits, _full(model, tokens[order])[:, 4:])
    if difference.max() > CLOSE:
        row = int(difference.flatten(1).amax(1).argmax())
        raise Failed(
            f"after 4 tokens, state rows {order.tolist()} are not the state of these rows of the batch: going on, "
            f"row {row} is off by {difference.max():.2g}"
        )


def reset(subject: PartSubject) -> None:
    """A row whose state is overwritten with a fresh one starts anew, while the others go on, as in a server."""
    model, tokens = subject.model(dtype=torch.float64), subject.tokens(2, LENGTH)
    states = model.new_states(2, LENGTH)
    if not dict(_tensors(states)):
        raise Skipped("it keeps no state")
    _step(model, tokens[:, :4], torch.arange(4)[None], states)
    fresh = dict(_tensors(model.new_states(1, LENGTH)))
    for name, tensor in _tensors(states):
        tensor[1] = fresh[name][0]
    anew = subject.tokens(1, 4, seed=9)
    going_on = torch.cat([tokens[:1, 4:], anew])
    parts = [_step(model, going_on[:, [t]], torch.tensor([[4 + t], [t]]), states) for t in range(4)]
    logits = torch.cat(parts, dim=1)
    expected = torch.cat([_full(model, tokens[:1])[:, 4:], _full(model, anew)])
    difference = distance(logits, expected).flatten(1).amax(1)
    if difference[1] > CLOSE:
        raise Failed(f"row 1, reset to a fresh state, still knows what it was: off by {difference[1]:.2g}")
    if difference[0] > CLOSE:
        raise Failed(f"row 0 is disturbed by the reset of row 1: off by {difference[0]:.2g}")


def rollback(subject: PartSubject) -> None:
    """Where every sublayer says `supports_rollback`, decoding can go on from an earlier position, with other tokens."""
    model, tokens = subject.model(dtype=torch.float64), subject.tokens(2, LENGTH)
    states = model.new_states(2, LENGTH)
    if not dict(_tensors(states)):
        raise Skipped("it keeps no state")
    for layer, (block, kept) in enumerate(zip(model.blocks, states, strict=True)):
        for name in kept:
            if not getattr(block, name).supports_rollback:
                raise Skipped(f"the {name} of layer {layer} does not say that it rolls back")
    other = torch.cat([tokens[:, :3], (tokens[:, 3:] + 1) % HOST["vocab_size"]], dim=1)
    _step(model, tokens, torch.arange(LENGTH)[None], states)
    for first, last in ((3, 4), (4, LENGTH)):  # one token, then a chunk
        logits = _step(model, other[:, first:last], torch.arange(first, last)[None], states)
        difference = distance(logits, _full(model, other)[:, first:last])
        if difference.max() > CLOSE:
            raise Failed(
                f"it says rolls_back, but after {LENGTH} tokens, going on from position 3 with others is off by "
                f"{difference.max():.2g} at positions {first} to {last - 1}"
            )


@torch.no_grad()
def _step(model: Any, tokens: Tensor, positions: Tensor, states: Any) -> Tensor:
    return model(tokens, positions=positions, states=states)[0]


def _full(model: Any, tokens: Tensor) -> Tensor:
    return decode(model, tokens, [tokens.shape[1]])


def _tensors(states: Any) -> Any:
    """Each tensor of the states with its name, `blocks.0.attention.k`."""
    return ((name, tensor) for name, tensor, _ in _slots(states))


def _slots(states: Any) -> Any:
    """Each tensor with its name, and a function that puts another in its place."""
    for layer, sublayers in enumerate(states):
        for sublayer, kept in sublayers.items():
            for name in list(kept):
                yield f"blocks.{layer}.{sublayer}.{name}", kept[name], lambda t, k=kept, n=name: k.__setitem__(n, t)
