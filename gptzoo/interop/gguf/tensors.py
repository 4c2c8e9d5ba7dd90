"""The tensors of a checkpoint as views of those in a GGUF file, and the other way round."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from gptzoo.checkpoint.sharded_tensors import DTYPE_NAMES
from gptzoo.interop.gguf.architecture import GgufArchitecture
from gptzoo.interop.gguf.layouts import LAYOUTS, HeadCounts, Layout
from gptzoo.interop.gguf.reader import GgufTensor
from gptzoo.interop.gguf.rope import FREQUENCY_FACTORS
from gptzoo.interop.stored_tensors import StoredTensor
from gptzoo.spec.model import ModelSpec

COMPUTED = frozenset({FREQUENCY_FACTORS})
"""Tensors that follow from settings."""


@dataclass(frozen=True)
class Correspondence:
    """A tensor of a GGUF file and the checkpoint tensors that it holds: one, or a stack of several."""

    gguf: str
    checkpoint: tuple[str, ...]
    is_stack: bool
    layout: Layout


def correspondences(architecture: GgufArchitecture, spec: ModelSpec) -> Iterator[Correspondence]:
    """Yield all tensors that a model may have, layer by layer: those that share weights are close to each other."""
    in_layer = {gguf: checkpoint for gguf, checkpoint in architecture.tensors.items() if "{layer}" in gguf}
    for gguf, checkpoint in architecture.tensors.items():
        if gguf not in in_layer:
            yield from _correspondence(architecture, spec, gguf, checkpoint, layer=0)
    for layer in range(spec.n_layers):
        for gguf, checkpoint in in_layer.items():
            yield from _correspondence(architecture, spec, gguf, checkpoint, layer=layer)


def _correspondence(
    architecture: GgufArchitecture, spec: ModelSpec, gguf: str, checkpoint: str, *, layer: int
) -> Iterator[Correspondence]:
    """Yield the weight and the bias of a tensor that an architecture names by patterns."""
    heads, part = head_counts(spec), gguf.rpartition(".")[2]
    layout = LAYOUTS[architecture.layouts.get(part, "same")]
    stacked = "expert" if "{expert}" in checkpoint else "head" if "{head}" in checkpoint else None
    n_kv = heads.n_kv_heads if part == "attn_k_norm" else heads.n_heads
    n_stacked = {"expert": _n_experts(spec), "head": n_kv, None: 1}[stacked]
    for kind in ("weight", "bias"):
        names = tuple(
            f"{checkpoint}.{kind}".format(layer=layer, expert=index, head=index) for index in range(n_stacked)
        )
        yield Correspondence(f"{gguf}.{kind}".format(layer=layer), names, stacked is not None, layout)


def head_counts(spec: ModelSpec) -> HeadCounts:
    """Return the numbers of heads of a model."""
    attention: Any = spec.per_layer("attention")[0]
    return HeadCounts(spec.n_heads, getattr(attention, "n_kv_heads", None) or spec.n_heads)


def _n_experts(spec: ModelSpec) -> int:
    return max(getattr(ffn, "n_experts", 0) for ffn in spec.per_layer("ffn"))


@dataclass(frozen=True)
class _View:
    """The reader of one checkpoint tensor, in the place of an open safetensors file."""

    source: GgufTensor
    part: int | None  # of a stack
    layout: Layout
    heads: HeadCounts

    def get_tensor(self, name: str) -> Tensor:
        return self.layout.to_checkpoint(self.source.read(self.part), self.heads)


def checkpoint_tensors(
    architecture: GgufArchitecture, spec: ModelSpec, tensors: Mapping[str, GgufTensor]
) -> dict[str, StoredTensor]:
    """Return the tensors of a GGUF file by their names in a checkpoint.

    One that the architecture does not have keeps its name. Values are read, dequantised and converted on demand.
    """
    heads, found, known = head_counts(spec), {}, set(COMPUTED)
    for pair in correspondences(architecture, spec):
        if pair.gguf not in tensors:
            continue
        source = tensors[pair.gguf]
        known.add(pair.gguf)
        values = torch.empty(source.shape[1:] if pair.is_stack else source.shape, dtype=source.dtype, device="meta")
        converted = _converted(values, pair.layout, heads)
        shape, dtype = tuple(converted.shape), DTYPE_NAMES[converted.dtype]
        for index, name in enumerate(pair.checkpoint):
            if not pair.is_stack:
                found[name] = StoredTensor(pair.gguf, shape, dtype, _View(source, None, pair.layout, heads))
            elif index < source.shape[0]:  # the others are reported as missing
                found[name] = StoredTensor(pair.gguf, shape, dtype, _View(source, index, pair.layout, heads))
    for name in tensors.keys() - known:
        found[name] = StoredTensor(name, tensors[name].shape, "F32", None)
    return found


def _converted(tensor: Tensor, layout: Layout, heads: HeadCounts) -> Tensor:
    try:
        return layout.to_checkpoint(tensor, heads)
    except (RuntimeError, IndexError, ValueError):  # the sizes do not match; the importer reports it
        return tensor


def gguf_tensors(
    architecture: GgufArchitecture, spec: ModelSpec, tensors: Mapping[str, Tensor]
) -> Iterator[tuple[str, Tensor]]:
    """Yield the tensors of a GGUF file, made of those of a checkpoint. Raises KeyError for one that it cannot hold."""
    heads = head_counts(spec)
    written: set[str] = set()
    for pair in correspondences(architecture, spec):
        if pair.checkpoint[0] in tensors:
            parts = [pair.layout.to_gguf(tensors[name], heads) for name in pair.checkpoint]
            yield pair.gguf, torch.stack(parts) if pair.is_stack else parts[0]
            written.update(pair.checkpoint)
    if architecture.needs_output and f"{architecture.tensors['output']}.weight" not in tensors:
        yield "output.weight", tensors[f"{architecture.tensors['token_embd']}.weight"]
    if rest := tensors.keys() - written:
        raise KeyError(min(rest))
