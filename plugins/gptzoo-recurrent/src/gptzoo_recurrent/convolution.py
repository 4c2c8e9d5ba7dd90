"""The short convolution: each channel by itself mixes the last few tokens (H3, Mamba, Gated DeltaNet)."""

from __future__ import annotations

import torch
from torch import Tensor


def short_convolution(
    x: Tensor,  # (B, T, W)
    taps: Tensor,  # (W, 1, n_taps), the last one for the token itself
    past: Tensor,  # (B, n_taps - 1, W), the inputs before x
    present: Tensor | None,  # (B|1, T) bool, False for padding; None: there is none
    starts: Tensor | None,  # (B, T) bool, the first tokens of documents that follow another
) -> tuple[Tensor, Tensor]:
    """The mixed tokens (B, T, W), and the inputs that come before the next ones (B, n_taps - 1, W).

    Neither padding nor another document is in any window: in its place is the token before it, or zero.
    """
    B, T, W = x.shape
    n_past = past.shape[1]
    n_new: Tensor | int = T
    if present is not None:  # padding goes behind the tokens of its row, which closes the gaps in their windows
        present = present.expand(B, T)
        n_new = present.sum(dim=1, keepdim=True)
        place = torch.where(present, present.cumsum(dim=1) - 1, n_new + (~present).cumsum(dim=1) - 1)  # (B, T)
        x = torch.empty_like(x).scatter(1, _wide(place, W), x)
        starts = None if starts is None else torch.empty_like(starts).scatter(1, place, starts)
    line = torch.cat([past, x], dim=1)  # (B, n_past + T, W)
    document = None if starts is None else torch.cat([starts.new_zeros(B, n_past), starts], dim=1).cumsum(dim=1)

    y = taps[:, 0, -1] * x
    for back in range(1, n_past + 1):
        earlier = line[:, n_past - back : -back]
        if document is not None:
            other = document[:, n_past - back : -back] != document[:, n_past:]
            earlier = earlier.masked_fill(other[..., None], 0.0)
        y = y + taps[:, 0, -1 - back] * earlier

    last = (n_new + torch.arange(n_past, device=x.device)).expand(B, n_past)
    past = line.gather(1, _wide(last, W))
    if document is not None:
        past = past.masked_fill((document.gather(1, last) < document[:, -1:])[..., None], 0.0)
    return (y if present is None else y.gather(1, _wide(place, W))), past


def _wide(index: Tensor, width: int) -> Tensor:
    """(B, n) -> (B, n, width), to gather and scatter whole vectors."""
    return index[..., None].expand(-1, -1, width)
