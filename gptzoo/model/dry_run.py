"""One training step without values: how many floating-point operations it takes, how many bytes are alive at once.

Operations are counted on the meta device, where torch spells fused attention out as matrix products, which its counter
knows; it has no entry for the fused kernel of a CPU. Bytes are counted with torch's fake tensors, which claim to be on
a CPU: every operation then takes the kernel, and keeps for the backward pass, what a real step on a CPU does.
"""

from __future__ import annotations

import math
import weakref
from collections.abc import Iterable
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode
from torch.utils.weak import WeakIdKeyDictionary

from gptzoo.model.build import assemble
from gptzoo.spec.model import PER_LAYER, ModelSpec

Precision = Literal["fp32", "bf16"]


class Rehearsal(NamedTuple):
    """What one step was seen to do. FLOPs are of one sequence, bytes of the whole batch."""

    n_parameters: int
    forward_flops: int
    training_flops: int  # forward and backward
    activation_bytes: int  # alive between forward and backward, weights not counted
    early_peak_bytes: int  # most alive until the backward pass has freed half of the activations, weights not counted
    late_peak_bytes: int  # most alive after that


def rehearse(
    spec: ModelSpec, n_parameters: int, *, batch_size: int, sequence_length: int, precision: Precision
) -> Rehearsal:
    """One training step of the model with `n_parameters` that the spec describes.

    A deep model is rehearsed at two small depths: where layers only repeat, each number grows by the same amount with
    every repetition. The peak alone does not, which is why there are two: while activations pile up, and while
    gradients do. If the number of parameters does not grow in that way either, the model is rehearsed whole.
    """

    def at_depth(n_layers: int) -> Rehearsal:
        shallow = spec.model_copy(update={"n_layers": n_layers})
        flops = count_flops(shallow, sequence_length)
        return Rehearsal(*flops, *count_bytes(shallow, batch_size, sequence_length, precision))

    lists = (getattr(spec, field) for field in PER_LAYER)
    period = math.lcm(*(len(value) for value in lists if isinstance(value, tuple)))
    base = 2 * period + spec.n_layers % period
    n_more = (spec.n_layers - base) // period
    if n_more > 1:
        one, two = at_depth(base), at_depth(base + period)
        whole = Rehearsal(*(a + n_more * (b - a) for a, b in zip(one, two, strict=True)))
        if whole.n_parameters == n_parameters:
            return whole
    return at_depth(spec.n_layers)


def count_flops(spec: ModelSpec, sequence_length: int) -> tuple[int, int, int]:
    """Parameters; FLOPs of the logits of one sequence; the same with the backward pass.

    Attention counts over the full T x T, whatever a mask hides. What is recomputed to save memory does not count, so a
    backward pass is twice its forward; of a fused attention kernel torch's counter would say 2.5 times.
    """
    model = assemble(spec)
    batch = model.example_inputs(1, sequence_length, device="meta")
    with FlopCounterMode(display=False) as counter:
        logits, _ = model(**batch)
        forward = counter.get_total_flops()
        logits.sum().backward()
    return sum(p.numel() for p in model.parameters()), forward, counter.get_total_flops()


def count_bytes(spec: ModelSpec, batch_size: int, sequence_length: int, precision: Precision) -> tuple[int, int, int]:
    """The activations and the two peaks of a `Rehearsal`."""
    with FakeTensorMode():
        model = spec.architecture.build(spec).train()
        with LiveBytes([*model.parameters(), *model.buffers()]) as alive:
            batch = model.example_inputs(batch_size, sequence_length)
            with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
                _, loss = model(**batch, targets=batch["tokens"].clone())
            activations = alive.now
            alive.begin_backward()
            loss.backward()
    early_peak, late_peak = alive.peaks
    return activations, early_peak, late_peak


class LiveBytes(TorchDispatchMode):
    """Counts the bytes of the storages that are made under it, from the operation that makes one until it is freed."""

    def __init__(self, not_counted: Iterable[Tensor]):
        super().__init__()
        self.now = 0
        self.peaks = [0, 0]  # before and after half of what the forward pass left is freed
        self._of_forward = 0  # of `now`, what the forward pass made
        self._half = 0
        self._in_backward = False
        self._seen = WeakIdKeyDictionary()
        for tensor in not_counted:
            self._seen[tensor.untyped_storage()] = True

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for value in tree_leaves(result):
            if isinstance(value, Tensor):
                self._see(value.untyped_storage())
        return result

    def begin_backward(self) -> None:
        self._in_backward = True
        self._half = self._of_forward // 2

    def _see(self, storage: torch.UntypedStorage) -> None:
        if storage in self._seen:
            return
        self._seen[storage] = True
        n_bytes = storage.nbytes()
        self._count(n_bytes, not self._in_backward)
        weakref.finalize(storage, self._count, -n_bytes, not self._in_backward)

    def _count(self, n_bytes: int, of_forward: bool) -> None:
        self.now += n_bytes
        self._of_forward += n_bytes if of_forward else 0
        late = self._of_forward < self._half
        self.peaks[late] = max(self.peaks[late], self.now)
