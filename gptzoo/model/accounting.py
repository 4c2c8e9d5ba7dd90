"""What a model costs: parameters, floating-point operations, cache and training memory, all from its spec alone.

No component declares anything for this: parts are found by their kind in the module tree, work and memory by rehearsing
a step (`gptzoo.model.dry_run`), the cache by making it on the meta device.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import nn

from gptzoo.components.part import Part
from gptzoo.errors import InputError
from gptzoo.model.architecture import Architecture
from gptzoo.model.build import assemble
from gptzoo.model.dry_run import Precision, Rehearsal, rehearse
from gptzoo.spec.model import ModelSpec

_CACHE_DTYPE: dict[Precision, torch.dtype] = {"fp32": torch.float32, "bf16": torch.bfloat16}
_ADAMW_BYTES = 8  # per parameter: two running means in fp32


@dataclass(frozen=True)
class Parameters:
    """Number of parameters; a tied matrix counts once.

    `embedding` is what grows with the vocabulary or belongs to positions: token table, untied output head, all of the
    positionals. `non_embedding` is the rest, the N of Kaplan et al. 2020 (arXiv:2001.08361). nanoGPT prints another
    number under this name: the total without positions alone.
    """

    total: int
    embedding: int
    non_embedding: int
    by_part: dict[str, int]  # by the kind of the part, or by its name in the architecture (`embed`, `head`)


@dataclass(frozen=True)
class Flops:
    """FLOPs of matrix products per token, in a sequence of full length; one multiply and add are two."""

    forward: int
    training: int  # forward and backward


@dataclass(frozen=True)
class TrainingMemory:
    """Bytes that one training step needs on a CPU, with one micro-batch, AdamW and fp32 weights.

    Activations are freed while gradients appear, so `total_bytes`, the most that is alive at once, may be less than the
    sum of the others; it can be more, by what an operation holds for a moment. What an allocator hoards comes on top
    (`benchmarks/memory.py`), and a GPU fuses more and needs less.
    """

    batch_size: int
    sequence_length: int
    precision: Precision  # bf16 is autocast
    weight_bytes: int
    gradient_bytes: int
    optimizer_bytes: int
    activation_bytes: int
    total_bytes: int


@dataclass(frozen=True)
class Account:
    """All the costs. Where a part's work depends on values, nothing can be rehearsed: `not_rehearsed` says why."""

    parameters: Parameters
    kv_cache_bytes_per_token: int  # for each token until a window is full
    state_bytes: int  # of a row of context_length tokens, bookkeeping included
    flops_per_token: Flops | None = None
    training_memory: TrainingMemory | None = None
    not_rehearsed: str | None = None

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def account(
    spec: ModelSpec, *, sequence_length: int | None = None, batch_size: int = 1, precision: Precision = "fp32"
) -> Account:
    """The costs of the model that `spec` describes; `sequence_length` is the context_length if left out.

    Takes no memory for values, whatever the size of the model. Raises InputError if the sequence is longer than the
    model's positions reach, and SpecError if the spec has no vocab_size.
    """
    model = assemble(spec)
    length = sequence_length or spec.context_length
    if model.max_length is not None and length > model.max_length:
        raise InputError(f"{spec.name}: a sequence of {length} tokens is longer than its {model.max_length} positions")
    parameters = count_parameters(model)
    dtype = _CACHE_DTYPE[precision]
    one, two = _state_bytes(model, 1, dtype), _state_bytes(model, 2, dtype)
    known = Account(
        parameters=parameters,
        kv_cache_bytes_per_token=two["floating"] - one["floating"],
        state_bytes=_state_bytes(model, spec.context_length, dtype)["all"],
    )
    try:
        seen = rehearse(spec, parameters.total, batch_size=batch_size, sequence_length=length, precision=precision)
    except RuntimeError as error:  # torch's, from an operation that needs values: the rest is still worth knowing
        return replace(known, not_rehearsed=str(error).strip().partition("\n")[0])
    return replace(
        known,
        flops_per_token=Flops(seen.forward_flops // length, seen.training_flops // length),
        training_memory=_training_memory(model, seen, batch_size, length, precision),
    )


def count_parameters(model: Architecture) -> Parameters:
    """Parameters by part. What a part contains is the part's: the norm of its queries belongs to the attention."""
    vocab_size = model.spec.vocab_size
    by_part: dict[str, int] = {}
    embedding = 0
    for path, parameter in model.named_parameters():
        part = _outermost_part(model, path)
        name = part_of(model, path)
        by_part[name] = by_part.get(name, 0) + parameter.numel()
        if name == "positional" or (part is None and vocab_size in parameter.shape):
            embedding += parameter.numel()
    total = sum(by_part.values())
    return Parameters(total, embedding, total - embedding, by_part)


def part_of(model: nn.Module, path: str) -> str:
    """What a parameter belongs to: the kind of the part, or its name in the architecture (`embed`, `head`)."""
    part = _outermost_part(model, path)
    return path.partition(".")[0] if part is None else part.kind.removesuffix("_layer")


def _outermost_part(model: nn.Module, path: str) -> Part | None:
    """The outermost part that holds the parameter at `path`; None if the model, or a stack in it, holds it itself."""
    module = model
    for name in path.split(".")[:-1]:
        module = getattr(module, name)
        if isinstance(module, Part) and not isinstance(module, Architecture):
            return module
    return None


def _state_bytes(model: Architecture, max_length: int, dtype: torch.dtype) -> dict[str, int]:
    states = model.new_states(1, max_length, device="meta", dtype=dtype)
    tensors = [tensor for layer in states for state in layer.values() for tensor in state.values()]
    return {
        "all": sum(tensor.nbytes for tensor in tensors),
        "floating": sum(tensor.nbytes for tensor in tensors if tensor.is_floating_point()),
    }


def _training_memory(
    model: Architecture, seen: Rehearsal, batch_size: int, length: int, precision: Precision
) -> TrainingMemory:
    trained = sum(parameter.nbytes for parameter in model.parameters())
    weights = trained + sum(buffer.nbytes for buffer in model.buffers())
    optimizer = _ADAMW_BYTES * seen.n_parameters
    peak = max(seen.early_peak_bytes, seen.late_peak_bytes)
    return TrainingMemory(
        batch_size=batch_size,
        sequence_length=length,
        precision=precision,
        weight_bytes=weights,
        gradient_bytes=trained,
        optimizer_bytes=optimizer,
        activation_bytes=seen.activation_bytes,
        total_bytes=weights + optimizer + peak,
    )
