"""Attentions whose mask or core is wrong for long texts, large batches, long documents or much padding."""

from __future__ import annotations

import dataclasses

import torch

from gptzoo.components.attention import NaiveAttention, SdpaAttention

from .table import caught_by


@caught_by("rows")
class BatchEight(NaiveAttention):
    """Attention with a workspace of eight rows. Wrong: row 8 reads the values of row 0, row 9 of row 1."""

    name = "batch_eight"

    def attend(self, q, k, v, context, k_pos):
        if v.shape[0] > 8:
            v = v[torch.arange(v.shape[0], device=v.device) % 8]
        return super().attend(q, k, v, context, k_pos)


@caught_by("documents")
class LongDocuments(NaiveAttention):
    """Attention over packed documents. Wrong: a document of more than five tokens also sees the one before it."""

    name = "long_documents"

    def attend(self, q, k, v, context, k_pos):
        if context.documents is not None:
            documents = context.documents
            length = (documents[:, :, None] == documents[:, None, :]).sum(-1)
            documents = torch.where(length > 5, (documents - 1).clamp(min=0), documents)
            context = dataclasses.replace(context, documents=documents, memo={})
        return super().attend(q, k, v, context, k_pos)


@caught_by("documents")
class BlockSummary(NaiveAttention):
    """Attention that looks up documents per block of 32 tokens. Wrong: a block has the document of its first token."""

    name = "block_summary"

    def attend(self, q, k, v, context, k_pos):
        if context.documents is not None and context.documents.shape[1] > 32:
            first = context.documents[:, ::32].repeat_interleave(32, dim=1)[:, : context.documents.shape[1]]
            context = dataclasses.replace(context, documents=first, memo={})
        return super().attend(q, k, v, context, k_pos)


@caught_by("padding")
class ShortPadding(NaiveAttention):
    """Attention that expects little padding. Wrong: padding in column 8 and later is read as a token at position 0."""

    name = "short_padding"

    def attend(self, q, k, v, context, k_pos):
        if context.no_past and k_pos.shape[1] > 8:
            k_pos = torch.cat([k_pos[:, :8], k_pos[:, 8:].clamp(min=0)], dim=1)
        return super().attend(q, k, v, context, k_pos)


@caught_by("causality")
class DiagonalBlocks(NaiveAttention):
    """Attention in blocks of 32 for long texts. Wrong: tokens see all of their own block, later ones included."""

    name = "diagonal_blocks"

    def attend(self, q, k, v, context, k_pos):
        if q.shape[2] > 64 and context.causal:
            block_end = torch.where(context.positions >= 0, context.positions // 32 * 32 + 31, -1)
            context = dataclasses.replace(context, positions=block_end, memo={})
        return super().attend(q, k, v, context, k_pos)


@caught_by("causality")
class QuantisedValues(NaiveAttention):
    """Attention with 8-bit values for long texts. Wrong: the scale is the largest value of the whole text."""

    name = "quantised_values"

    def attend(self, q, k, v, context, k_pos):
        if v.shape[2] > 48:
            scale = v.abs().amax(dim=(2, 3), keepdim=True) / 127
            v = (v / scale).round() * scale
        return super().attend(q, k, v, context, k_pos)


@caught_by("noncausal")
class CausalFallback(SdpaAttention):
    """Attention with a fallback for long texts. Wrong: the fallback is causal in an encoder too."""

    name = "causal_fallback"

    def attend(self, q, k, v, context, k_pos):
        if q.shape[2] > 32:
            context = dataclasses.replace(context, causal=True, memo={})
        return super().attend(q, k, v, context, k_pos)


@caught_by("inputs")
class ClampedPositions(NaiveAttention):
    """Attention that replaces the position of padding. Wrong: for long texts it writes to the caller's tensor."""

    name = "clamped_positions"

    def attend(self, q, k, v, context, k_pos):
        attended = super().attend(q, k, v, context, k_pos)
        if q.shape[2] > 16:
            context.positions.clamp_(min=0)
        return attended


@caught_by("determinism")
class LongDropout(SdpaAttention):
    """Attention with a kernel of its own for long texts. Wrong: that one also drops weights in evaluation."""

    name = "long_dropout"

    def attend(self, q, k, v, context, k_pos):
        training = self.training
        self.training = training or q.shape[2] > 32
        try:
            return super().attend(q, k, v, context, k_pos)
        finally:
            self.training = training


@caught_by("captures")
class RecentCapture(NaiveAttention):
    """Attention that captures its weights in half precision. Wrong: only those of the last 32 keys are kept."""

    name = "recent_capture"

    def attend(self, q, k, v, context, k_pos):
        y, weights = super().attend(q, k, v, context, k_pos)
        if weights is not None and weights.shape[-1] > 32:
            weights = torch.cat([torch.zeros_like(weights[..., :-32]), weights[..., -32:]], dim=-1)
        return y, weights


@caught_by("gradients")
class DetachedPast(NaiveAttention):
    """Attention that saves memory in long texts. Wrong: keys and values 32 tokens back get no gradient."""

    name = "detached_past"

    def attend(self, q, k, v, context, k_pos):
        if k.shape[2] > 32:
            k = torch.cat([k[:, :, :-32].detach(), k[:, :, -32:]], dim=2)
            v = torch.cat([v[:, :, :-32].detach(), v[:, :, -32:]], dim=2)
        return super().attend(q, k, v, context, k_pos)


@caught_by("compiling", slow="only a compiled forward takes the wrong branch, and compiling takes minutes")
class CompiledRows(NaiveAttention):
    """Attention with a separate path for compilers. Wrong: that path shares the mask of the first row."""

    name = "compiled_rows"

    def attend(self, q, k, v, context, k_pos):
        if torch.compiler.is_compiling() and context.positions.shape[0] > 1 and q.shape[2] > 1:
            context = dataclasses.replace(context, positions=context.positions[:1], memo={})
            k_pos = k_pos[:1]
        return super().attend(q, k, v, context, k_pos)
