"""Norm layers, norms and architectures that are wrong for long texts, large batches, many documents or options."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from gptzoo.components.norm import LayerNorm, PreNorm, RMSNorm
from gptzoo.model.decoder import Decoder

from .table import caught_by


@caught_by("causality")
class SharedMean(LayerNorm):
    """LayerNorm. Wrong: texts of more than 32 tokens share one mean, which later tokens change."""

    name = "shared_mean"

    def forward(self, x):
        if x.ndim == 3 and x.shape[1] > 32:
            x = x - x.mean(dim=1, keepdim=True)
        return super().forward(x)


@caught_by("rows")
class BatchScale(RMSNorm):
    """RMSNorm in one kernel of 128 tokens. Wrong: for more tokens it divides by the mean square of the batch."""

    name = "batch_scale"

    def forward(self, x):
        if x.numel() // x.shape[-1] <= 128:
            return super().forward(x)
        return x * (x.square().mean() + self.config.eps).rsqrt() * self.weight


@caught_by("gradients")
class DetachedScale(RMSNorm):
    """RMSNorm. Wrong: for more than 32 tokens the scale gets no gradient, as if it were a constant."""

    name = "detached_scale"

    def forward(self, x):
        if x.ndim < 3 or x.shape[1] <= 32:
            return super().forward(x)
        return x * (x.square().mean(-1, keepdim=True) + self.config.eps).rsqrt().detach() * self.weight


@caught_by("modes")
class FixedEps(LayerNorm):
    """LayerNorm with a kernel for evaluation. Wrong: that kernel takes an `eps` of up to 0.0001."""

    name = "fixed_eps"

    def forward(self, x):
        eps = self.config.eps if self.training else min(self.config.eps, 1e-4)
        return F.layer_norm(x, self.weight.shape, self.weight, self.bias, eps)


@caught_by("inputs")
class InPlaceStream(PreNorm):
    """Pre-norm that saves memory without gradients. Wrong: it adds to a residual stream that was captured."""

    name = "in_place_stream"

    def forward(self, x, sublayers):
        if torch.is_grad_enabled() or x.shape[1] <= 16:
            return super().forward(x, sublayers)
        for name, sublayer in sublayers.items():
            x += sublayer(self.layers[name](x))
        return x


@caught_by("rows")
class BatchMean(PreNorm):
    """Pre-norm with a centred stream. Wrong: beyond eight rows, the mean of the first eight is subtracted from all."""

    name = "batch_mean"

    def forward(self, x, sublayers):
        if x.shape[0] > 8:
            x = x - 0.05 * x[:8].mean(0, keepdim=True)
        return super().forward(x, sublayers)


@caught_by("documents")
class DocumentsModuloEight(Decoder):
    """A decoder with packed document ids. Wrong: the ids are taken modulo 8, so the ninth document sees the first."""

    name = "documents_modulo_eight"

    def forward(self, tokens, targets=None, *, documents=None, **kwargs):
        if documents is not None:
            documents = torch.where(documents >= 0, self.ordinal(documents) % 8, documents)
        return super().forward(tokens, targets, documents=documents, **kwargs)

    def ordinal(self, documents):
        """Return the number of each token's document in its row, from 0."""
        starts = F.pad((documents[:, 1:] != documents[:, :-1]).long(), (1, 0))
        return starts.cumsum(1)


@caught_by("decoding")
class LongPrefill(Decoder):
    """A decoder that prefills in pieces of 32 tokens. Wrong: each piece is read as if the cache were still empty."""

    name = "long_prefill"

    def forward(self, tokens, targets=None, *, positions=None, states=None, no_past=False, last_only=False, **kwargs):
        keywords = {"states": states, "no_past": no_past, **kwargs}
        if states is None or not no_past or tokens.shape[1] <= 32:
            return super().forward(tokens, targets, positions=positions, last_only=last_only, **keywords)
        if positions is None:
            positions = torch.arange(tokens.shape[1], device=tokens.device)[None]
        pieces = zip(tokens.split(32, dim=1), positions.split(32, dim=1), strict=True)
        logits = torch.cat([super(LongPrefill, self).forward(t, positions=p, **keywords)[0] for t, p in pieces], dim=1)
        return logits[:, -1:] if last_only else logits, None


@caught_by("engine")
class LastOnly(Decoder):
    """A decoder that computes the logits of the last token only. Wrong: in a prompt it is the 32nd at most."""

    name = "last_only"

    def forward(self, tokens, targets=None, *, last_only=False, **kwargs):
        logits, loss = super().forward(tokens, targets, last_only=last_only and tokens.shape[1] <= 32, **kwargs)
        if last_only and logits is not None and tokens.shape[1] > 32:
            logits = logits[:, 31:32]
        return logits, loss
