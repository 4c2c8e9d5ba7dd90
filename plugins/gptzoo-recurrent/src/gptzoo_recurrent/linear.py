"""Linear attention: a kernel replaces the softmax, so a running sum replaces the KV cache."""

from __future__ import annotations

import torch
from torch import Tensor

import gptzoo
from gptzoo_recurrent.accumulate import accumulate
from gptzoo_recurrent.recurrent import RecurrentAttention, document_starts, present_tokens


class Linear(RecurrentAttention):
    """Linear attention: a recurrent attention with weights phi(q_t) . phi(k_s), where phi(x) = elu(x) + 1.

    y_t is the sum of phi(q_t) . phi(k_s) v_s over s <= t, divided by the sum of the weights. A rotation is applied to
    phi(q) and phi(k) in the numerator only (RoFormer, arXiv:2104.09864, eq. 19). So the denominator stays positive.
    """

    name = "linear"
    paper = "Katharopoulos et al. 2020, Transformers are RNNs, arXiv:2006.16236"

    def mix(self, x: Tensor, context: gptzoo.ForwardContext, state: gptzoo.State) -> tuple[Tensor, gptzoo.State]:
        q, k, v = self.heads(self.qkv(x))  # (B, H, T, D)
        q, k = _phi(q), _phi(k)
        if (present := present_tokens(context)) is not None:
            k = k.masked_fill(~present[:, None, :, None], 0.0)
        starts = document_starts(context)
        no_decay = q.new_zeros(1, 1, q.shape[2])
        ones = torch.ones_like(v[..., :1])
        denominator, total = accumulate(q, k, ones, no_decay, starts, state["total"], self.chunk_size)
        q, k = context.rotate(q, k)
        y, memory = accumulate(q, k, v, no_decay, starts, state["memory"], self.chunk_size)
        y = y / (denominator + 1e-6)  # the denominator of padding before the first token is 0
        return y.transpose(1, 2).flatten(-2), {"memory": memory, "total": total}

    def new_state(
        self, batch_size: int, max_length: int, *, device: torch.device | str | None, dtype: torch.dtype
    ) -> gptzoo.State:
        state = super().new_state(batch_size, max_length, device=device, dtype=dtype)
        return {**state, "total": torch.zeros_like(state["memory"][..., :1])}  # (B, H, D, 1), the sum of phi(k)


def _phi(x: Tensor) -> Tensor:
    """Return elu(x) + 1, without F.elu, whose gradient has strides that the compiler does not expect (torch 2.13)."""
    return torch.where(x > 0, x + 1, x.clamp(max=0.0).exp())
