"""What `gptzoo build` says that a model costs is what it costs."""

from __future__ import annotations

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from gptzoo.model.accounting import account
from gptzoo.model.dry_run import count_flops
from gptzoo.testing.subject import HOST, PartSubject
from gptzoo.testing.verdict import Failed, Skipped

_DEEP = 4  # so deep that the account is extrapolated from fewer layers


def accounting(subject: PartSubject) -> None:
    """Parameters and FLOPs of the account, made on meta and from few layers, are those of the real model, whole."""
    spec = subject.spec(n_layers=_DEEP)
    told, length = account(spec), HOST["context_length"]
    model = subject.model(n_layers=_DEEP)
    n_parameters = sum(parameter.numel() for parameter in model.parameters())
    if told.parameters.total != n_parameters:
        raise Failed(f"the account says {told.parameters.total} parameters, the model has {n_parameters}")
    if told.flops_per_token is None:
        raise Skipped(f"its work depends on values, so nothing can be rehearsed: {told.not_rehearsed}")
    whole = count_flops(spec, length)[1] // length
    if told.flops_per_token.forward != whole:
        raise Failed(
            f"{_DEEP} layers take {whole} FLOPs per token, extrapolated from fewer layers they would take "
            f"{told.flops_per_token.forward}: its work depends on the layer in a way that does not repeat"
        )
    with FlopCounterMode(display=False) as counter, torch.no_grad(), sdpa_kernel(SDPBackend.MATH):
        model(subject.tokens(1, length))
    real = counter.get_total_flops() // length
    if real != whole:
        raise Failed(
            f"on meta a token takes {whole} FLOPs, in a real forward {real}: it works otherwise where values are"
        )
