"""Retention: linear attention without a normaliser, with a fixed decay per head."""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import gptzoo
from gptzoo_recurrent.accumulate import accumulate
from gptzoo_recurrent.recurrent import RecurrentAttention, document_starts, present_tokens


class Retention(RecurrentAttention):
    """Retention (RetNet): a recurrent attention with a fixed exponential decay per head, a group norm and a swish gate.

    y_t is the sum of gamma^(t-s) (q_t . k_s / sqrt(D)) v_s over s <= t. Head h = 0, 1, … has gamma = 1 - 2^(-5-h). The
    rotation in the paper is left to the model's `positional`.
    """

    name = "retention"
    paper = "Sun et al. 2023, Retentive Network, arXiv:2307.08621"

    class Config(RecurrentAttention.Config):
        def problems(self, dims: gptzoo.Dims) -> Iterator[tuple[str, str]]:
            yield from super().problems(dims)
            if dims.d_head == 1:
                yield "", "normalises each head, so the width of a head must be at least 2, got 1"

    def __init__(self, config: Config, dims: gptzoo.Dims):
        super().__init__(config, dims)
        self.gate = nn.Linear(dims.d_model, self.widths[-1], bias=config.bias)

    def mix(self, x: Tensor, context: gptzoo.ForwardContext, state: gptzoo.State) -> tuple[Tensor, gptzoo.State]:
        q, k, v = self.heads(self.qkv(x))  # (B, H, T, D)
        q, k = context.rotate(q, k * self.d_head**-0.5)
        head = torch.arange(self.n_heads, device=x.device, dtype=q.dtype)
        log_decay = torch.log1p(-torch.exp2(-5 - head))[None, :, None].expand(-1, -1, q.shape[2])  # (1, H, T)
        if (present := present_tokens(context)) is not None:
            k = k.masked_fill(~present[:, None, :, None], 0.0)
            log_decay = log_decay.masked_fill(~present[:, None], 0.0)
        y, memory = accumulate(q, k, v, log_decay, document_starts(context), state["memory"], self.chunk_size)
        # The paper's group norm. As in the authors' code it has no weights: the layers after it can scale as well.
        y = F.layer_norm(y.transpose(1, 2), (self.d_head,), eps=1e-6)  # (B, T, H, D)
        return F.silu(self.gate(x)) * y.flatten(-2), {"memory": memory}
