"""The costs of a model: parameters, FLOPs, KV cache and training memory, computed from its spec.

Components declare nothing for this. Parameters are grouped by the kind of the component that holds them. FLOPs and
training memory come from a dry run (`gptzoo.model.dry_run`), and the cache size from a cache on the meta device.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import nn

from gptzoo.components.part import Part
from gptzoo.errors import InputError
from gptzoo.model.architecture import Architecture
from gptzoo.model.build import build_on_meta
from gptzoo.model.dry_run import DryRun, Precision, dry_run
from gptzoo.spec.model import ModelSpec

_CACHE_DTYPE: dict[Precision, torch.dtype] = {"fp32": torch.float32, "bf16": torch.bfloat16}
_ADAMW_BYTES = 8  # per parameter: two moments in fp32


@dataclass(frozen=True)
class ParameterCounts:
    """The number of parameters; a tied matrix counts once.

    `embedding` counts the token embedding, an untied output head and all positionals. `non_embedding` is the rest, the
    N of Kaplan et al. 2020 (arXiv:2001.08361). nanoGPT's number of the same name is the total without position
    embeddings.
    """

    total: int
    embedding: int
    non_embedding: int
    by_part: dict[str, int]  # by the kind of the component, or by name in the architecture (`embed`, `head`)


@dataclass(frozen=True)
class Flops:
    """FLOPs of matrix products per token in a sequence of `sequence_length` tokens; a multiply-add counts as two."""

    forward: int
    training: int  # forward and backward


@dataclass(frozen=True)
class TrainingMemory:
    """Memory in bytes for one training step on a CPU, with one micro-batch, AdamW and fp32 weights.

    `total_bytes` is the peak. It may be less than the sum of the other fields, because activations are freed while
    gradients are allocated. It may also be more, because of temporary buffers. An allocator's overhead comes on top
    (`benchmarks/memory.py`). A GPU fuses more operations and needs less.
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
class ModelCosts:
    """All costs of a model."""

    parameters: ParameterCounts
    kv_cache_bytes_per_token: int  # per token, until a window is full
    state_bytes: int  # for one sequence of context_length tokens, with the cache's positions
    flops_per_token: Flops | None = None
    training_memory: TrainingMemory | None = None
    not_counted: str | None = None
    """Reason why FLOPs and training memory are unknown: an operation whose work depends on values."""

    def as_dict(self) -> dict[str, Any]:
        """Return the costs as JSON."""
        return asdict(self)


def model_costs(
    spec: ModelSpec, *, sequence_length: int | None = None, batch_size: int = 1, precision: Precision = "fp32"
) -> ModelCosts:
    """Compute the costs of the model that `spec` describes, without allocating it.

    The default `sequence_length` is the context_length. Raises InputError if the sequence is longer than the model
    supports, and SpecError if the spec has no vocab_size.
    """
    model = build_on_meta(spec)
    length = sequence_length or spec.context_length
    if model.max_length is not None and length > model.max_length:
        raise InputError(f"{spec.name}: sequence length {length} exceeds the model's maximum of {model.max_length}")
    parameters = count_parameters(model)
    dtype = _CACHE_DTYPE[precision]
    costs = ModelCosts(
        parameters=parameters,
        kv_cache_bytes_per_token=(
            _state_bytes(model, 2, dtype)["floating"] - _state_bytes(model, 1, dtype)["floating"]
        ),
        state_bytes=_state_bytes(model, spec.context_length, dtype)["all"],
    )
    try:
        step = dry_run(spec, parameters.total, batch_size=batch_size, sequence_length=length, precision=precision)
    except RuntimeError as error:  # raised by torch for an operation that needs values
        return replace(costs, not_counted=str(error).strip().partition("\n")[0])
    return replace(
        costs,
        flops_per_token=Flops(step.forward_flops // length, step.training_flops // length),
        training_memory=_training_memory(model, step, batch_size, length, precision),
    )


def state_bytes(spec: ModelSpec, lengths: Iterable[int], precision: Precision = "fp32") -> dict[int, int]:
    """Return the bytes of the cache or recurrent state of one sequence, by its length.

    Lengths beyond the model's limit of positions are left out.
    """
    model, dtype = build_on_meta(spec), _CACHE_DTYPE[precision]
    supported = [length for length in lengths if model.max_length is None or length <= model.max_length]
    return {length: _state_bytes(model, length, dtype)["all"] for length in supported}


def count_parameters(model: Architecture) -> ParameterCounts:
    """Count parameters by component. A nested component belongs to the outermost: a query norm counts as attention."""
    vocab_size = model.spec.vocab_size
    by_part: dict[str, int] = {}
    embedding = 0
    for path, parameter in model.named_parameters():
        group = parameter_group(model, path)
        by_part[group] = by_part.get(group, 0) + parameter.numel()
        in_architecture = _outermost_part(model, path) is None
        if group == "positional" or (in_architecture and vocab_size in parameter.shape):
            embedding += parameter.numel()
    total = sum(by_part.values())
    return ParameterCounts(total, embedding, total - embedding, by_part)


def parameter_group(model: nn.Module, path: str) -> str:
    """Return the kind of the component that holds a parameter, or its name in the architecture (`embed`, `head`)."""
    part = _outermost_part(model, path)
    return path.partition(".")[0] if part is None else part.kind.removesuffix("_layer")


def _outermost_part(model: nn.Module, path: str) -> Part | None:
    """Return the outermost component that holds the parameter at `path`, or None if an architecture holds it itself."""
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
    model: Architecture, step: DryRun, batch_size: int, length: int, precision: Precision
) -> TrainingMemory:
    gradients = sum(parameter.nbytes for parameter in model.parameters())
    weights = gradients + sum(buffer.nbytes for buffer in model.buffers())
    optimizer = _ADAMW_BYTES * step.n_parameters
    peak = max(step.early_peak_bytes, step.late_peak_bytes)
    return TrainingMemory(
        batch_size=batch_size,
        sequence_length=length,
        precision=precision,
        weight_bytes=weights,
        gradient_bytes=gradients,
        optimizer_bytes=optimizer,
        activation_bytes=step.activation_bytes,
        total_bytes=weights + optimizer + peak,
    )
