"""Properties of the decoding state: its rows can be reordered, reset and rolled back, whatever the component."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from gptzoo.model.architecture import Architecture, States
from gptzoo.testing.compare import TOLERANCE, first_difference, relative_difference
from gptzoo.testing.component_under_test import ModelPartUnderTest
from gptzoo.testing.properties.decoding.cached_decoding import decode
from gptzoo.testing.tiny_model import TINY_MODEL
from gptzoo.testing.verdict import Failed, Skipped

_LENGTH = 8


def check_state(subject: ModelPartUnderTest) -> None:
    """Check that the state is a dict of batch-first tensors, is updated in place, and can be allocated on meta."""
    model = subject.model()
    tensors_by_batch_size = {size: dict(tensors_of(model.new_states(size, _LENGTH))) for size in (2, 3)}
    if not tensors_by_batch_size[2]:
        raise Skipped("it keeps no state")
    for name, tensor in tensors_by_batch_size[2].items():
        if not isinstance(tensor, Tensor):
            raise Failed(
                f"the state {name} is of type {type(tensor).__name__}; expected a tensor, because a counter would not "
                "follow its row when rows are reordered"
            )
        shapes = [tuple(tensors_by_batch_size[size][name].shape) for size in (2, 3)]
        if not tensor.ndim or [shape[0] for shape in shapes] != [2, 3] or shapes[0][1:] != shapes[1][1:]:
            raise Failed(
                f"the state {name} is not batch first: its shapes for 2 and 3 rows are {shapes[0]} and {shapes[1]}"
            )
    states = model.new_states(2, _LENGTH)
    original = dict(tensors_of(states))
    _feed(model, subject.tokens(2, 2), torch.arange(2)[None], states)
    _feed(model, subject.tokens(2, 1), torch.tensor([[2]]), states)
    for name, tensor in tensors_of(states):
        if tensor is not original[name]:
            raise Failed(f"a forward pass replaces the state {name}; write into it: a CUDA graph keeps the old one")
    for name, tensor in tensors_of(model.new_states(1, _LENGTH, device="meta")):
        if not tensor.is_meta:
            raise Failed(f"new_states(device='meta') creates {name} on {tensor.device}")


def check_reorder(subject: ModelPartUnderTest) -> None:
    """Check that reordering the rows of the state reorders the rows of the batch, as beam search does."""
    model, tokens = subject.model(dtype=torch.float64), subject.tokens(3, _LENGTH)
    states = model.new_states(3, _LENGTH)
    if not dict(tensors_of(states)):
        raise Skipped("it keeps no state")
    order = torch.tensor([2, 0, 0])
    _feed(model, tokens[:, :4], torch.arange(4)[None], states)
    for _, tensor, replace in _tensors_with_setters(states):
        replace(tensor[order].clone())
    logits = _feed(model, tokens[order, 4:], torch.arange(4, _LENGTH)[None], states)
    difference = relative_difference(logits, _logits(model, tokens[order])[:, 4:])
    if difference.max() > TOLERANCE:
        row = int(difference.flatten(1).amax(1).argmax())
        raise Failed(
            f"after 4 tokens and reordering the state to rows {order.tolist()}, the logits of row {row} differ by "
            f"{difference.max():.2g}"
        )


def check_reset(subject: ModelPartUnderTest) -> None:
    """Check that overwriting one row of the state with an empty one restarts that row and affects no other row."""
    model, tokens = subject.model(dtype=torch.float64), subject.tokens(2, _LENGTH)
    states = model.new_states(2, _LENGTH)
    if not dict(tensors_of(states)):
        raise Skipped("it keeps no state")
    _feed(model, tokens[:, :4], torch.arange(4)[None], states)
    empty = dict(tensors_of(model.new_states(1, _LENGTH)))
    for name, tensor in tensors_of(states):
        tensor[1] = empty[name][0]
    new_row = subject.tokens(1, 4, seed=9)
    next_tokens = torch.cat([tokens[:1, 4:], new_row])
    logits = torch.cat(
        [_feed(model, next_tokens[:, [t]], torch.tensor([[4 + t], [t]]), states) for t in range(4)], dim=1
    )
    expected = torch.cat([_logits(model, tokens[:1])[:, 4:], _logits(model, new_row)])
    difference = relative_difference(logits, expected).flatten(1).amax(1)
    if difference[1] > TOLERANCE:
        raise Failed(
            f"after resetting row 1 of the state, its logits differ from those of a new row by {difference[1]:.2g}"
        )
    if difference[0] > TOLERANCE:
        raise Failed(f"resetting the state of row 1 changes the logits of row 0 by {difference[0]:.2g}")


def check_rollback(subject: ModelPartUnderTest) -> None:
    """Check that decoding can continue from an earlier position if every sublayer sets `supports_rollback`."""
    model, tokens = subject.model(dtype=torch.float64), subject.tokens(2, _LENGTH)
    states = model.new_states(2, _LENGTH)
    if not dict(tensors_of(states)):
        raise Skipped("it keeps no state")
    for layer, (block, state) in enumerate(zip(model.blocks, states, strict=True)):
        for name in state:
            if not getattr(block, name).supports_rollback:
                raise Skipped(f"the {name} of layer {layer} does not set supports_rollback")
    other_tokens = torch.cat([tokens[:, :3], (tokens[:, 3:] + 1) % TINY_MODEL["vocab_size"]], dim=1)
    _feed(model, tokens, torch.arange(_LENGTH)[None], states)
    for first, last in ((3, 4), (4, _LENGTH)):  # one token, then a chunk
        logits = _feed(model, other_tokens[:, first:last], torch.arange(first, last)[None], states)
        difference = relative_difference(logits, _logits(model, other_tokens)[:, first:last])
        if difference.max() > TOLERANCE:
            _, token = first_difference(difference, TOLERANCE)
            raise Failed(
                f"it sets supports_rollback, but after {_LENGTH} tokens, continuing from position 3 with other tokens "
                f"gives logits that differ by {difference.max():.2g}, first at position {first + token}"
            )


@torch.no_grad()
def _feed(model: Architecture, tokens: Tensor, positions: Tensor, states: States) -> Tensor:
    """Feed tokens to a model with a state and return their logits."""
    return model(tokens, positions=positions, states=states)[0]


def _logits(model: Architecture, tokens: Tensor) -> Tensor:
    return decode(model, tokens, [tokens.shape[1]])


def tensors_of(states: States) -> Iterator[tuple[str, Tensor]]:
    """Yield each tensor of the states with its name, such as `blocks.0.attention.k`."""
    return ((name, tensor) for name, tensor, _ in _tensors_with_setters(states))


def _tensors_with_setters(states: States) -> Iterator[tuple[str, Tensor, Callable[[Tensor], None]]]:
    """Yield each tensor with its name and a function that replaces it in the states."""
    for layer, sublayers in enumerate(states):
        for sublayer, state in sublayers.items():
            for name in list(state):

                def replace(tensor: Tensor, state: dict[str, Tensor] = state, name: str = name) -> None:
                    state[name] = tensor

                yield f"blocks.{layer}.{sublayer}.{name}", state[name], replace
