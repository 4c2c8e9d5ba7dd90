"""Accounting: the costs that `gptzoo build` reports are those of the real model."""

from __future__ import annotations

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from gptzoo.model.accounting import model_costs
from gptzoo.model.dry_run import count_flops
from gptzoo.testing.component_under_test import ModelPartUnderTest
from gptzoo.testing.tiny_model import TINY_MODEL
from gptzoo.testing.verdict import Failed, Skipped

_N_LAYERS = 4  # deep enough that the account is extrapolated from fewer layers


def check_accounting(subject: ModelPartUnderTest) -> None:
    """Check that the real model has the parameters and FLOPs reported by `gptzoo build`."""
    spec = subject.spec(n_layers=_N_LAYERS)
    reported, length = model_costs(spec), TINY_MODEL["context_length"]
    model = subject.model(n_layers=_N_LAYERS)
    n_parameters = sum(parameter.numel() for parameter in model.parameters())
    if reported.parameters.total != n_parameters:
        raise Failed(f"gptzoo build reports {reported.parameters.total} parameters, the model has {n_parameters}")
    if reported.flops_per_token is None:
        raise Skipped(f"its FLOPs depend on values, so a dry run cannot count them: {reported.not_counted}")
    flops_on_meta = count_flops(spec, length)[1] // length
    if reported.flops_per_token.forward != flops_on_meta:
        raise Failed(
            f"{_N_LAYERS} layers take {flops_on_meta} FLOPs per token, but {reported.flops_per_token.forward} when "
            "extrapolated from fewer layers: its work depends on the layer in a way that does not repeat"
        )
    with FlopCounterMode(display=False) as counter, torch.no_grad(), sdpa_kernel(SDPBackend.MATH):
        model(subject.tokens(1, length))
    flops = counter.get_total_flops() // length
    if flops != flops_on_meta:
        raise Failed(
            f"a token takes {flops_on_meta} FLOPs on the meta device and {flops} in a real forward pass; it must do "
            "the same work on both"
        )
