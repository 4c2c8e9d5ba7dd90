"""Gated DeltaNet: a recurrent memory that is corrected by the delta rule and decays at a rate that each token sets."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

import torch
import torch.nn.functional as F
from pydantic import Field, PositiveInt
from torch import Tensor, nn

import gptzoo
from gptzoo_recurrent.convolution import short_convolution
from gptzoo_recurrent.delta_rule import delta_rule
from gptzoo_recurrent.recurrent import HeadSizes, RecurrentAttention, document_starts, present_tokens, state_dtype


class GatedDelta(RecurrentAttention):
    """Gated DeltaNet: a recurrent attention that corrects the value stored under a key, with learned decay.

    S_t = alpha_t (I - beta_t k_t^T k_t) S_(t-1) + beta_t k_t^T v_t and y_t = q_t S_t, followed by an RMS norm per head
    and a swish gate. Each token sets, for each head, the decay alpha_t, between 0 and 1, and the write strength beta_t,
    between 0 and `beta_max`. Queries, keys and values pass through a short causal convolution and swish. Queries and
    keys are then rotated, if the position encoding is rotary, and scaled to length 1. Scaling comes last, so the
    recurrence is stable with any rotation.
    """

    name = "gated_delta"
    paper = "Yang et al. 2024, Gated Delta Networks, arXiv:2412.06464"

    class Config(RecurrentAttention.Config):
        conv_size: PositiveInt = 4
        """Width of the short convolution in tokens, including the current one. 1 disables the convolution."""
        n_key_heads: PositiveInt | None = None
        """Number of query and key heads, a divisor of `n_value_heads` (Qwen3-Next). Default: the same number."""
        n_value_heads: PositiveInt | None = None
        """Number of value heads. Default: the model's `n_heads`."""
        d_key: PositiveInt | None = None
        """Width of a query or key, an even number. Default: a head width."""
        d_value: PositiveInt | None = None
        """Width of a value. Default: a head width."""
        beta_max: float = Field(default=1.0, gt=0.0, le=2.0, json_schema_extra={"added": True})
        """Largest write strength. Above 1, the state can change its sign along a key (negative eigenvalues, Grazzi et
        al. 2024, arXiv:2411.12537), which tracking a state such as parity needs. Default: 1, as in Gated DeltaNet."""
        eps: float = Field(default=1e-6, ge=1e-12, le=1.0)
        """Constant added to the mean square in the norm of the outputs."""

        def problems(self, dims: gptzoo.Dims) -> Iterator[tuple[str, str]]:
            yield from super().problems(dims)
            n_value_heads = self.n_value_heads or dims.n_heads
            if self.n_key_heads and n_value_heads % self.n_key_heads:
                yield "n_key_heads", f"should divide the number of value heads, {n_value_heads}, not {self.n_key_heads}"
            if self.d_key and self.d_key % 2:
                yield "d_key", f"should be even, because channels may be rotated in pairs, not {self.d_key}"
            if self.conv_size > dims.context_length:
                yield "conv_size", f"{self.conv_size} is longer than context_length {dims.context_length}"

        def canonical(self, dims: gptzoo.Dims) -> GatedDelta.Config:
            n_value_heads = self.n_value_heads or dims.n_heads
            return self.model_copy(
                update={
                    "n_key_heads": self.n_key_heads or n_value_heads,
                    "n_value_heads": n_value_heads,
                    "d_key": self.d_key or dims.d_head,
                    "d_value": self.d_value or dims.d_head,
                }
            )

    config: Config

    def __init__(self, config: Config, dims: gptzoo.Dims):
        super().__init__(config, dims)
        width, n_heads, value_width = sum(self.widths), self.sizes.n_value_heads, self.widths[-1]
        self.taps = nn.Parameter(torch.empty(width, 1, config.conv_size)) if config.conv_size > 1 else None
        self.alpha = nn.Linear(dims.d_model, n_heads, bias=False)
        self.beta = nn.Linear(dims.d_model, n_heads, bias=False)
        self.A_log = nn.Parameter(torch.empty(n_heads))
        self.dt_bias = nn.Parameter(torch.empty(n_heads))
        self.gate = nn.Linear(dims.d_model, value_width, bias=config.bias)
        self.norm = nn.RMSNorm(self.sizes.d_value, eps=config.eps)

    def head_sizes(self, config: RecurrentAttention.Config, dims: gptzoo.Dims) -> HeadSizes:
        assert isinstance(config, GatedDelta.Config)
        n_value_heads = config.n_value_heads or dims.n_heads
        d_key, d_value = config.d_key or dims.d_head, config.d_value or dims.d_head
        return HeadSizes(config.n_key_heads or n_value_heads, n_value_heads, d_key, d_value)

    def fans(self) -> Mapping[str, gptzoo.Fans]:
        return {} if self.taps is None else {"taps": gptzoo.Fans(inputs=(1, 2))}

    def initialise(self, rng: gptzoo.Rng) -> None:
        """Initialise the decay in the ranges of Mamba-2 (arXiv:2405.21060): a head forgets within 1 to 1000 tokens."""
        self.A_log.uniform_(1, 16, generator=rng("A_log")).log_()
        rate = self.dt_bias.uniform_(math.log(0.001), math.log(0.1), generator=rng("dt_bias")).exp()
        self.dt_bias.copy_(rate.expm1().log())  # so that softplus(dt_bias) is the rate
        if self.taps is not None:
            bound = self.config.conv_size**-0.5
            self.taps.uniform_(-bound, bound, generator=rng("taps"))

    def mix(self, x: Tensor, context: gptzoo.ForwardContext, state: gptzoo.State) -> tuple[Tensor, gptzoo.State]:
        present, starts = present_tokens(context), document_starts(context)
        new_state = {}
        qkv = self.qkv(x).to(state_dtype(x))
        if self.taps is not None:
            qkv, new_state["inputs"] = short_convolution(qkv, self.taps, state["inputs"], present, starts)
        q, k, v = self.heads(F.silu(qkv))  # (B, H, T, D), (B, H, T, D), (B, H, T, E)
        q, k = (_unit_length(vectors) for vectors in context.rotate(q, k))
        log_alpha, beta = self._decay_and_write_strength(x)
        if present is not None:
            log_alpha, beta = (gate.masked_fill(~present[:, None], 0.0) for gate in (log_alpha, beta))
        y, new_state["memory"] = delta_rule(q, k, v, beta, log_alpha, starts, state["memory"], self.chunk_size)
        y = self.norm(y.transpose(1, 2).to(x.dtype))  # (B, T, H, E)
        return F.silu(self.gate(x)) * y.flatten(-2), new_state

    def _decay_and_write_strength(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return log alpha, at most 0, and beta, (B, H, T) each, in float32 or wider, for x (B, T, C)."""
        alpha, beta = (linear(x).to(state_dtype(x)).transpose(1, 2) for linear in (self.alpha, self.beta))
        # logsigmoid(-x) is -softplus(x), but the compiler knows the strides of its gradient (torch 2.13).
        log_alpha = self.A_log.exp()[:, None] * F.logsigmoid(-(alpha + self.dt_bias[:, None]))
        strength = beta.sigmoid()
        return log_alpha, strength if self.config.beta_max == 1 else self.config.beta_max * strength

    def new_state(
        self, batch_size: int, max_length: int, *, device: torch.device | str | None, dtype: torch.dtype
    ) -> gptzoo.State:
        state = super().new_state(batch_size, max_length, device=device, dtype=dtype)
        if self.taps is not None:
            width, _, n_taps = self.taps.shape
            state["inputs"] = state["memory"].new_zeros(batch_size, n_taps - 1, width)
        return state


def _unit_length(x: Tensor) -> Tensor:
    """Scale the vectors of (…, D) to length 1."""
    return x * (x.square().sum(dim=-1, keepdim=True) + 1e-6).rsqrt()
