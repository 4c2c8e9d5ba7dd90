"""Linear attention: a kernel in place of the softmax, so that keys and values can be summed before a query comes."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

import gptzoo
from gptzoo_recurrent.accumulate import accumulate
from gptzoo_recurrent.recurrent import RecurrentAttention, State, document_starts, present_tokens


class Linear(RecurrentAttention):
    """y_t = sum of phi(q_t) . phi(k_s) v_s over s <= t, divided by the sum of the weights; phi(x) = elu(x) + 1.

    A rotation is applied to the mapped queries and keys of the numerator alone (RoFormer, arXiv:2104.09864, eq. 19),
    so that what is divided by stays positive.
    """

    name = "linear"
    paper = "Katharopoulos et al. 2020, Transformers are RNNs, arXiv:2006.16236"

    def mix(self, x: Tensor, context: gptzoo.ForwardContext, state: State) -> tuple[Tensor, State]:
        q, k, v = self.heads(self.qkv(x))  # (B, H, T, D)
        q, k = _phi(q), _phi(k)
        if (present := present_tokens(context)) is not None:
            k = k.masked_fill(~present[:, None, :, None], 0.0)
        starts = document_starts(context)
        keep_all = q.new_zeros(1, 1, q.shape[2])
        weights, total = accumulate(q, k, torch.ones_like(v[..., :1]), keep_all, starts, state["total"], self.chunk)
        q, k = context.rotate(q, k)
        y, memory = accumulate(q, k, v, keep_all, starts, state["memory"], self.chunk)
        y = y / (weights + 1e-6)  # padding before the first token has no weights
        return y.transpose(1, 2).flatten(-2), {"memory": memory, "total": total}

    def new_state(self, batch_size: int, max_length: int, *, device: Any, dtype: torch.dtype) -> State:
        state = super().new_state(batch_size, max_length, device=device, dtype=dtype)
        return {**state, "total": torch.zeros_like(state["memory"][..., :1])}  # (B, H, D, 1), the sum of mapped keys


def _phi(x: Tensor) -> Tensor:
    """elu(x) + 1. Spelled out: in torch 2.13 the strides of elu's gradient are not those that the compiler expects."""
    return torch.where(x > 0, x + 1, x.clamp(max=0.0).exp())
