"""Broken attentions, each with one fault that somebody has made before."""

from __future__ import annotations

from dataclasses import replace

import torch
from pydantic import PositiveInt
from torch import Tensor, nn

import gptzoo


class ExplicitAttention(gptzoo.MultiHeadAttention):
    """A correct attention: scores, mask, softmax, weighted sum. The classes below override one of these steps."""

    def attend(
        self, q: Tensor, k: Tensor, v: Tensor, context: gptzoo.ForwardContext, k_pos: Tensor
    ) -> tuple[Tensor, Tensor | None]:
        scores = q @ k.mT * self.d_head**-0.5  # (B, H, T, S)
        if (bias := context.bias(k_pos)) is not None:
            scores = scores + bias
        weights = scores.masked_fill(~self.mask(context, k_pos), float("-inf")).softmax(-1)
        return weights @ v, self.captured(scores, weights) if "attention" in context.capture else None

    def mask(self, context: gptzoo.ForwardContext, k_pos: Tensor) -> Tensor:
        return context.attention_mask(k_pos, self.window)

    def captured(self, scores: Tensor, weights: Tensor) -> Tensor:
        return weights


class ForgetsWritesResidualToo(ExplicitAttention):
    """Replaces the output projection, and does not say that it writes the residual stream."""

    name = "forgets_writes_residual_too"

    def __init__(self, config: gptzoo.MultiHeadAttention.Config, dims: gptzoo.Dims):
        super().__init__(config, dims)
        self.out = nn.Linear(self.n_heads * self.d_head, dims.d_model)


class HeadsAsWideAsTheModel(ExplicitAttention):
    """Takes the width of the model for that of all heads, which a model may set to another one."""

    name = "heads_as_wide_as_the_model"

    def __init__(self, config: gptzoo.MultiHeadAttention.Config, dims: gptzoo.Dims):
        super().__init__(config, dims)
        self.head_gate = nn.Linear(dims.d_model, dims.d_model)

    def combine_heads(self, y: Tensor, x: Tensor) -> Tensor:
        return super().combine_heads(y, x) * self.head_gate(x).sigmoid()


# ---------------------------------------------------------------------- masks


class NotCausal(ExplicitAttention):
    """Masks padding only, so tokens see later ones."""

    name = "not_causal"

    def mask(self, context: gptzoo.ForwardContext, k_pos: Tensor) -> Tensor:
        return (k_pos >= 0)[:, None, None, :]


class CausalInEvalOnly(ExplicitAttention):
    """Sees later tokens in training mode: generation looks right, and every training loss is too good."""

    name = "causal_in_eval_only"

    def mask(self, context: gptzoo.ForwardContext, k_pos: Tensor) -> Tensor:
        return context.attention_mask(k_pos, self.window) | torch.tensor(self.training)


class AlwaysCausal(ExplicitAttention):
    """Lists `noncausal` in `supports`, but always applies a causal mask."""

    name = "always_causal"

    def mask(self, context: gptzoo.ForwardContext, k_pos: Tensor) -> Tensor:
        return super().mask(context, k_pos) & (k_pos[:, None, None, :] <= context.positions[:, None, :, None])


class AttendsToPadding(ExplicitAttention):
    """Compares positions without excluding padding, whose position -1 is the smallest."""

    name = "attends_to_padding"

    def mask(self, context: gptzoo.ForwardContext, k_pos: Tensor) -> Tensor:
        mask = k_pos[:, None, None, :] <= context.positions[:, None, :, None]
        if context.documents is not None:
            mask = mask & (context.documents[:, None, :, None] == context.documents[:, None, None, :])
        return mask


class IgnoresDocuments(ExplicitAttention):
    """Inherits `documents` in `supports`, but its mask ignores document boundaries."""

    name = "ignores_documents"

    def mask(self, context: gptzoo.ForwardContext, k_pos: Tensor) -> Tensor:
        q, k = context.positions[:, None, :, None], k_pos[:, None, None, :]
        return ((k >= 0) & (k <= q)) | (q < 0)


# ---------------------------------------------------------------------- state


class CacheTooSmall(ExplicitAttention):
    """Allocates a cache that is one token shorter than its window."""

    name = "cache_too_small"

    class Config(ExplicitAttention.Config):
        window: PositiveInt | None = 4

    def new_state(
        self, batch_size: int, max_length: int, *, device: torch.device | str | None, dtype: torch.dtype
    ) -> gptzoo.State:
        shapes = {"k": (self.n_kv_heads, self.d_head), "v": (self.n_kv_heads, self.d_head)}
        return gptzoo.new_cache(batch_size, min(self.window - 1, max_length), shapes, device=device, dtype=dtype)


class CacheLengthAsNumber(ExplicitAttention):
    """Turns the length of its cache into a Python number, which export fixes."""

    name = "cache_length_as_number"

    def forward(
        self, x: Tensor, context: gptzoo.ForwardContext, state: gptzoo.State | None = None
    ) -> Tensor | gptzoo.SublayerOutput:
        y = super().forward(x, context, state)
        return y if state is None else y / len(state["position"][0]) * state["position"].shape[1]


class OtherStateWhenCompiled(ExplicitAttention):
    """Writes something else into its state while it is compiled."""

    name = "other_state_when_compiled"

    def forward(
        self, x: Tensor, context: gptzoo.ForwardContext, state: gptzoo.State | None = None
    ) -> Tensor | gptzoo.SublayerOutput:
        y = super().forward(x, context, state)
        if state is not None and torch.compiler.is_compiling():
            state["v"].neg_()
        return y


class CounterInState(ExplicitAttention):
    """Keeps the number of tokens in its state as a Python integer."""

    name = "counter_in_state"

    def new_state(
        self, batch_size: int, max_length: int, *, device: torch.device | str | None, dtype: torch.dtype
    ) -> gptzoo.State:
        return {**super().new_state(batch_size, max_length, device=device, dtype=dtype), "n_tokens": 0}


class StateNotBatchFirst(gptzoo.Attention):
    """Computes a running mean, with a state whose first dimension is the channels."""

    name = "state_not_batch_first"
    supports = frozenset({"padding"})

    def __init__(self, config: gptzoo.Config, dims: gptzoo.Dims):
        super().__init__(config, dims)
        self.out = nn.Linear(dims.d_model, dims.d_model)

    def new_state(
        self, batch_size: int, max_length: int, *, device: torch.device | str | None, dtype: torch.dtype
    ) -> gptzoo.State:
        return {"sum": torch.zeros(self.dims.d_model + 1, batch_size, device=device, dtype=dtype)}

    def forward(self, x: Tensor, context: gptzoo.ForwardContext, state: gptzoo.State | None = None) -> Tensor:
        is_token = (context.positions >= 0).expand(x.shape[:2])[..., None].to(x.dtype)
        sums = (torch.cat([x, torch.ones_like(x[..., :1])], -1) * is_token).cumsum(1)
        if state is not None:
            sums = sums + state["sum"].T[:, None]
            state["sum"].copy_(sums[:, -1].T)
        return self.out(sums[..., :-1] / sums[..., -1:].clamp(min=1))


class ReplacesState(StateNotBatchFirst):
    """Replaces its state by a new tensor on every call. The state is batch first here."""

    name = "replaces_state"

    def new_state(
        self, batch_size: int, max_length: int, *, device: torch.device | str | None, dtype: torch.dtype
    ) -> gptzoo.State:
        return {"sum": torch.zeros(batch_size, self.dims.d_model + 1, device=device, dtype=dtype)}

    def forward(self, x: Tensor, context: gptzoo.ForwardContext, state: gptzoo.State | None = None) -> Tensor:
        transposed = None if state is None else {"sum": state["sum"].T.clone()}
        y = super().forward(x, context, transposed)
        if state is not None and transposed is not None:
            state["sum"] = transposed["sum"].T
        return y


class StateOnModule(ExplicitAttention):
    """Keeps its cache on the module, where reordering the state does not reach it."""

    name = "state_on_module"

    def new_state(
        self, batch_size: int, max_length: int, *, device: torch.device | str | None, dtype: torch.dtype
    ) -> gptzoo.State:
        self.hidden = [super().new_state(batch_size, max_length, device=device, dtype=dtype)]
        return {"unused": torch.zeros(batch_size, 1, device=device)}

    def forward(
        self, x: Tensor, context: gptzoo.ForwardContext, state: gptzoo.State | None = None
    ) -> Tensor | gptzoo.SublayerOutput:
        return super().forward(x, context, None if state is None else self.hidden[0])


class CountsTokensInRowZero(ReplacesState):
    """Uses the number of tokens in row 0 for all rows, as if all had started together."""

    name = "counts_tokens_in_row_zero"

    def forward(self, x: Tensor, context: gptzoo.ForwardContext, state: gptzoo.State | None = None) -> Tensor:
        if state is None:
            return super().forward(x, context)
        sums = state["sum"][:, None] + torch.cat([x, torch.ones_like(x[..., :1])], -1).cumsum(1)
        state["sum"].copy_(sums[:, -1])
        return self.out(sums[..., :-1] / sums[:1, :, -1:])


class RollbackOfRingBuffer(ExplicitAttention):
    """Sets `supports_rollback`, although its ring buffer has overwritten keys that an earlier token attends to."""

    name = "rollback_of_ring_buffer"

    class Config(ExplicitAttention.Config):
        window: PositiveInt | None = 3

    def __init__(self, config: gptzoo.Config, dims: gptzoo.Dims):
        super().__init__(config, dims)
        self.supports_rollback = True


class PaddingInPrefillOnly(ExplicitAttention):
    """Handles padding in a prefill, but in later chunks writes padding over the first token of the cache."""

    name = "padding_in_prefill_only"

    def forward(
        self, x: Tensor, context: gptzoo.ForwardContext, state: gptzoo.State | None = None
    ) -> Tensor | gptzoo.SublayerOutput:
        if state is not None and not context.no_past:
            context = replace(context, positions=context.positions.clamp(min=0))
        return super().forward(x, context, state)


# ---------------------------------------------------------------------- captures


class CapturesScores(ExplicitAttention):
    """Captures scores under the name of the weights."""

    name = "captures_scores"

    def captured(self, scores: Tensor, weights: Tensor) -> Tensor:
        return scores


class CapturesMeanOfHeads(ExplicitAttention):
    """Captures the mean over heads."""

    name = "captures_mean_of_heads"

    def captured(self, scores: Tensor, weights: Tensor) -> Tensor:
        return weights.mean(1)


class CapturesNoKeyPositions(ExplicitAttention):
    """Captures weights without the positions of their keys."""

    name = "captures_no_key_positions"

    def forward(
        self, x: Tensor, context: gptzoo.ForwardContext, state: gptzoo.State | None = None
    ) -> Tensor | gptzoo.SublayerOutput:
        y = super().forward(x, context, state)
        if not isinstance(y, gptzoo.SublayerOutput):
            return y
        return y._replace(captures={"attention": y.captures["attention"]})


# ---------------------------------------------------------------------- pairings


class RequiresRopeTables(ExplicitAttention):
    """Reads the tables of `rope` without requiring `rope`."""

    name = "requires_rope_tables"

    def attend(
        self, q: Tensor, k: Tensor, v: Tensor, context: gptzoo.ForwardContext, k_pos: Tensor
    ) -> tuple[Tensor, Tensor | None]:
        cos, _ = context.tables[self.d_head]
        return super().attend(q + 0 * cos.sum().to(q.dtype), k, v, context, k_pos)
