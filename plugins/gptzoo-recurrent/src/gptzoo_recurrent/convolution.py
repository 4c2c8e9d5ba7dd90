"""The short causal depthwise convolution of H3, Mamba and Gated DeltaNet, over the last few tokens."""

from __future__ import annotations

import torch
from torch import Tensor


def short_convolution(
    x: Tensor,  # (B, T, W)
    taps: Tensor,  # (W, 1, n_taps), the last tap weights the token itself
    past: Tensor,  # (B, n_taps - 1, W), the inputs before x
    present: Tensor | None,  # (B|1, T) bool, False for padding; None if there is no padding
    starts: Tensor | None,  # (B, T) bool, True for the first token of each document but the first one
) -> tuple[Tensor, Tensor]:
    """Return the outputs (B, T, W) and the inputs to be passed as `past` in the next call, (B, n_taps - 1, W).

    The window of a token skips padding: the token before the padding takes its place. With `starts`, tokens of other
    documents count as zero.
    """
    B, T, W = x.shape
    n_past = past.shape[1]
    n_present: Tensor | int = T
    if present is not None:  # move padding to the end of its sequence, so that windows have no gaps
        present = present.expand(B, T)
        n_present = present.sum(dim=1, keepdim=True)
        target = torch.where(present, present.cumsum(dim=1) - 1, n_present + (~present).cumsum(dim=1) - 1)  # (B, T)
        x = torch.empty_like(x).scatter(1, _widen(target, W), x)
        starts = None if starts is None else torch.empty_like(starts).scatter(1, target, starts)
    inputs = torch.cat([past, x], dim=1)  # (B, n_past + T, W)
    document = None if starts is None else torch.cat([starts.new_zeros(B, n_past), starts], dim=1).cumsum(dim=1)

    y = taps[:, 0, -1] * x
    for lag in range(1, n_past + 1):
        lagged = inputs[:, n_past - lag : -lag]
        if document is not None:
            in_other_document = document[:, n_past - lag : -lag] != document[:, n_past:]
            lagged = lagged.masked_fill(in_other_document[..., None], 0.0)
        y = y + taps[:, 0, -1 - lag] * lagged

    last = (n_present + torch.arange(n_past, device=x.device)).expand(B, n_past)
    past = inputs.gather(1, _widen(last, W))
    if document is not None:
        past = past.masked_fill((document.gather(1, last) < document[:, -1:])[..., None], 0.0)
    return (y if present is None else y.gather(1, _widen(target, W))), past


def _widen(index: Tensor, width: int) -> Tensor:
    """Expand an index (B, n) to (B, n, width), to gather and scatter vectors."""
    return index[..., None].expand(-1, -1, width)
