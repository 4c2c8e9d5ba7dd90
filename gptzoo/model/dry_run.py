"""A dry run of one training step: counts FLOPs and live bytes without computing any values.

FLOPs are counted on the meta device, where torch decomposes fused attention into matrix products. torch's FLOP counter
knows these, but not the fused CPU kernel. Bytes are counted on a pretended CPU, so every operation selects the same
kernel, and saves the same tensors for the backward pass, as a real step on a CPU.
"""

from __future__ import annotations

import math
import weakref
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from typing import Literal, NamedTuple

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.weak import WeakIdKeyDictionary

from gptzoo.model.build import build_on_meta
from gptzoo.model.shapes.eager_mode import EagerMode
from gptzoo.model.shapes.eager_references import eager_references
from gptzoo.model.shapes.flop_counter import FlopCounter, HigherOrderOperation
from gptzoo.model.shapes.pretended_cpu import PretendedCpu
from gptzoo.spec.model import PER_LAYER, ModelSpec

Precision = Literal["fp32", "bf16"]


class DryRun(NamedTuple):
    """The counts of one training step. FLOPs are per sequence, bytes are for the whole batch and without weights."""

    n_parameters: int
    forward_flops: int
    training_flops: int  # forward and backward
    activation_bytes: int  # live between forward and backward
    early_peak_bytes: int  # maximum until the backward pass has freed half of the activations
    late_peak_bytes: int  # maximum after that


def dry_run(
    spec: ModelSpec, n_parameters: int, *, batch_size: int, sequence_length: int, precision: Precision
) -> DryRun:
    """Run one training step of the model with `n_parameters` that `spec` describes, without values.

    For a deep model, run it at two smaller depths and extrapolate: if layers only repeat, each count grows linearly.
    The peak itself does not, so there are two: one while activations accumulate, one while gradients do. If the
    extrapolated number of parameters is not `n_parameters`, run the model at its full depth.
    """

    def at_depth(n_layers: int) -> DryRun:
        shallow = spec.model_copy(update={"n_layers": n_layers})
        flops = count_flops(shallow, sequence_length)
        return DryRun(*flops, *count_bytes(shallow, batch_size, sequence_length, precision))

    lists = (getattr(spec, field) for field in PER_LAYER)
    period = math.lcm(*(len(value) for value in lists if isinstance(value, tuple)))
    base = 2 * period + spec.n_layers % period
    n_more = (spec.n_layers - base) // period
    if n_more > 1:
        first, second = at_depth(base), at_depth(base + period)
        extrapolated = DryRun(*(a + n_more * (b - a) for a, b in zip(first, second, strict=True)))
        if extrapolated.n_parameters == n_parameters:
            return extrapolated
    return at_depth(spec.n_layers)


def count_flops(spec: ModelSpec, sequence_length: int) -> tuple[int, int, int]:
    """Return the number of parameters, and the FLOPs for one sequence: forward, and forward with backward.

    Attention counts as T x T even if a mask hides part of it. Recomputation to save memory does not count, so a
    backward pass is twice its forward. (For a fused attention kernel, torch's counter would report 2.5 times.)
    """
    try:
        counter = FlopCounter()
        return _count_flops(spec, sequence_length, counter, lambda: counter.total)
    except HigherOrderOperation:
        from torch.utils.flop_counter import FlopCounterMode

        torch_counter = FlopCounterMode(display=False)
        return _count_flops(spec, sequence_length, torch_counter, torch_counter.get_total_flops)


def _count_flops(
    spec: ModelSpec, sequence_length: int, counter: AbstractContextManager[object], total: Callable[[], int]
) -> tuple[int, int, int]:
    model = build_on_meta(spec)
    batch = model.example_inputs(1, sequence_length, device="meta")
    with eager_references(), counter:
        logits, _ = model(**batch)
        forward = total()
        logits.sum().backward()
    return sum(p.numel() for p in model.parameters()), forward, total()


def count_bytes(spec: ModelSpec, batch_size: int, sequence_length: int, precision: Precision) -> tuple[int, int, int]:
    """Return the activation bytes and the early and late peak bytes of a `DryRun`."""
    try:
        return _count_bytes(spec, batch_size, sequence_length, precision, PretendedCpu())  # type: ignore[no-untyped-call]
    except Exception:  # an operation that only torch's fake tensors know, or an error that they raise as well
        from torch._subclasses.fake_tensor import FakeTensorMode

        return _count_bytes(spec, batch_size, sequence_length, precision, FakeTensorMode())


def _count_bytes(
    spec: ModelSpec, batch_size: int, sequence_length: int, precision: Precision, cpu: TorchDispatchMode
) -> tuple[int, int, int]:
    plain = spec.with_multipliers()
    with eager_references(), cpu:
        model = plain.architecture.build(plain).train()
        with LiveBytes([*model.parameters(), *model.buffers()]) as live:
            batch = model.example_inputs(batch_size, sequence_length)
            with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
                _, loss = model(**batch, targets=batch["tokens"].clone())
            activations = live.now
            live.begin_backward()
            loss.backward()
    early_peak, late_peak = live.peaks
    return activations, early_peak, late_peak


class LiveBytes(EagerMode):
    """A context that counts the bytes of storages allocated inside it, from allocation until they are freed."""

    def __init__(self, excluded: Iterable[Tensor]):
        super().__init__()  # type: ignore[no-untyped-call]
        self.now = 0
        self.peaks = [0, 0]  # before and after half of the activations is freed
        self._from_forward = 0  # the part of `now` that the forward pass allocated
        self._half = 0
        self._in_backward = False
        self._counted = WeakIdKeyDictionary()
        for tensor in excluded:
            self._counted[tensor.untyped_storage()] = True

    def __torch_dispatch__(
        self,
        func: Callable[..., object],
        types: Iterable[type],
        args: tuple[object, ...] = (),
        kwargs: dict[str, object] | None = None,
    ) -> object:
        result = func(*args, **(kwargs or {}))
        for value in tree_leaves(result):
            if isinstance(value, Tensor):
                self._count_storage(value.untyped_storage())
        return result

    def begin_backward(self) -> None:
        """Mark the end of the forward pass."""
        self._in_backward = True
        self._half = self._from_forward // 2

    def _count_storage(self, storage: torch.UntypedStorage) -> None:
        if storage in self._counted:
            return
        self._counted[storage] = True
        n_bytes = storage.nbytes()
        self._add(n_bytes, from_forward=not self._in_backward)
        weakref.finalize(storage, self._add, -n_bytes, from_forward=not self._in_backward)

    def _add(self, n_bytes: int, *, from_forward: bool) -> None:
        self.now += n_bytes
        self._from_forward += n_bytes if from_forward else 0
        is_late = self._from_forward < self._half
        self.peaks[is_late] = max(self.peaks[is_late], self.now)
