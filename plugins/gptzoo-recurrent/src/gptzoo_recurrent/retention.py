"""Retention: linear attention without a normaliser whose heads forget, each at a fixed rate of its own."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import gptzoo
from gptzoo_recurrent.accumulate import accumulate
from gptzoo_recurrent.recurrent import RecurrentAttention, State, document_starts, present_tokens


class Retention(RecurrentAttention):
    """y_t = sum of gamma^(t-s) (q_t . k_s / sqrt(D)) v_s over s <= t, group norm by heads, swish gate.

    Head h = 0, 1, … keeps gamma = 1 - 2^(-5-h) from token to token. The paper's rotation is a positional's to make.
    """

    name = "retention"
    paper = "Sun et al. 2023, Retentive Network, arXiv:2307.08621"

    class Config(RecurrentAttention.Config):
        def problems(self, dims: Any) -> Iterator[tuple[str, str]]:
            yield from super().problems(dims)
            if dims.d_head == 1:
                yield "", "normalises each head, so d_model / n_heads must be at least 2"

    def __init__(self, config: Any, dims: gptzoo.Dims):
        super().__init__(config, dims)
        self.gate = nn.Linear(dims.d_model, dims.d_model, bias=config.bias)

    def mix(self, x: Tensor, context: gptzoo.ForwardContext, state: State) -> tuple[Tensor, State]:
        q, k, v = self.heads(self.qkv(x))  # (B, H, T, D)
        q, k = context.rotate(q, k * self.d_head**-0.5)
        head = torch.arange(self.n_heads, device=x.device, dtype=q.dtype)
        log_decay = torch.log1p(-torch.exp2(-5 - head))[None, :, None].expand(-1, -1, q.shape[2])  # (1, H, T)
        if (present := present_tokens(context)) is not None:
            k = k.masked_fill(~present[:, None, :, None], 0.0)
            log_decay = log_decay.masked_fill(~present[:, None], 0.0)
        y, memory = accumulate(q, k, v, log_decay, document_starts(context), state["memory"], self.chunk)
        # The group norm of the paper, without weights as in its authors' code: what follows can scale as well.
        y = F.layer_norm(y.transpose(1, 2), (self.d_head,), eps=1e-6)  # (B, T, H, D)
        return F.silu(self.gate(x)) * y.flatten(-2), {"memory": memory}
