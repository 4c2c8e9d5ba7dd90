"""Feed-forward networks and activations that are wrong for many tokens, wide layers or long texts."""

from __future__ import annotations

import torch

from gptzoo.components.activation import GELU, ReLU, SiLU
from gptzoo.components.ffn import GLU, MLP

from .table import caught_by


@caught_by("rows")
class Capacity(MLP):
    """A network that one expert computes. Wrong: it has room for 64 tokens of a batch, and drops the others."""

    name = "capacity"

    def forward(self, x, context, state=None):
        y = super().forward(x, context, state)
        kept = torch.arange(x.shape[0] * x.shape[1], device=x.device).view(*x.shape[:2], 1) < 64
        return y * kept


@caught_by("causality")
class ExpertChoice(MLP):
    """A network for the tokens that it scores highest. Wrong: long texts compete with their own later tokens."""

    name = "expert_choice"

    def forward(self, x, context, state=None):
        y = super().forward(x, context, state)
        if x.shape[1] <= 24:
            return y
        score = x.float().square().sum(-1)  # (B, T)
        best = score.topk(24, dim=1).values[:, -1:]
        return y * (score >= best)[..., None]


@caught_by("modes")
class HiddenBlocks(GLU):
    """A gated network in blocks of 96 hidden units in evaluation. Wrong: the last, shorter block is left out."""

    name = "hidden_blocks"

    def forward(self, x, context, state=None):
        if self.training or self.d_ff <= 96:
            return super().forward(x, context, state)
        gate, up = self.gate_up(x).chunk(2, dim=-1)
        hidden = self.activation(gate) * up
        whole = self.d_ff // 96 * 96
        return self.dropout(
            torch.nn.functional.linear(hidden[..., :whole], self.down.weight[:, :whole], self.down.bias)
        )


class TokenShift(MLP):
    """A network that reads the mean of a token and the one before it in its document."""

    name = "token_shift"

    def forward(self, x, context, state=None):
        last = torch.zeros_like(x[:, :1]) if state is None else state["last"].to(x.dtype)
        valid = context.positions.expand(x.shape[:2])[..., None] >= 0
        before = torch.cat([last, x[:, :-1]], dim=1)
        starts = valid & ~torch.cat([torch.zeros_like(valid[:, :1]), valid[:, :-1]], dim=1)
        before = torch.where(starts, last, before)  # padding comes first
        if context.documents is not None:
            same = (context.documents[:, 1:] == context.documents[:, :-1])[..., None]
            before = before * torch.cat([torch.ones_like(same[:, :1]), same], dim=1)
        if state is not None:
            state["last"].copy_(torch.where(valid[:, -1:], self.newest(x), last))
        return super().forward((x + before) / 2, context, state)

    def newest(self, x):
        """Return the last token (B, 1, C)."""
        return x[:, -1:]

    def new_state(self, batch_size, max_length, *, device, dtype):
        return {"last": torch.zeros(batch_size, 1, self.dims.d_model, device=device, dtype=dtype)}


@caught_by("decoding")
class ShiftFortyEight(TokenShift):
    """A network that reads the token before. Wrong: after a prompt of over 48 tokens it goes on from the 48th."""

    name = "shift_forty_eight"

    def newest(self, x):
        return x[:, min(x.shape[1], 48) - 1 :][:, :1]


@caught_by("rows")
class BatchClip(SiLU):
    """SiLU that clips outliers. Wrong: beyond 16,384 numbers, what is an outlier depends on the whole batch."""

    name = "batch_clip"

    def forward(self, x):
        y = super().forward(x)
        if y.numel() > 16384:
            limit = 2 * y.detach().abs().mean()
            y = y.clamp(-limit, limit)
        return y


class _BlockwiseReLU(torch.autograd.Function):
    """ReLU whose backward keeps a bit mask of a fixed size."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward((x > 0).flatten()[:2048])
        return x.clamp(min=0)

    @staticmethod
    def backward(ctx, grad):
        (mask,) = ctx.saved_tensors
        flat = grad.flatten().clone()
        flat[: len(mask)] *= mask
        return flat.view_as(grad)


@caught_by("gradients")
class BitMask(ReLU):
    """ReLU with a compact backward. Wrong: its mask has 2,048 bits, and the gradients beyond pass everywhere."""

    name = "bit_mask"

    def forward(self, x):
        return _BlockwiseReLU.apply(x)


@caught_by("modes")
class TanhInEvaluation(GELU):
    """GELU with a fast form in evaluation. Wrong: for the option `tanh` it is another function than in training."""

    name = "tanh_in_evaluation"

    def forward(self, x):
        if self.config.approximate == "tanh" and not self.training:
            return x * torch.sigmoid(1.702 * x)
        return super().forward(x)
