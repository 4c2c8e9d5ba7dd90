"""Mixture of experts for gptzoo, `"ffn": "moe"`, and the kind `router_balance` for load balancing of the experts."""

from __future__ import annotations

import gptzoo
from gptzoo_moe.balance import BiasBalance, LossBalance, RouterBalance
from gptzoo_moe.mixture import MixtureOfExperts

__all__ = ["BiasBalance", "LossBalance", "MixtureOfExperts", "RouterBalance"]


@gptzoo.hookimpl
def gptzoo_components() -> list[type[gptzoo.Component]]:
    return [MixtureOfExperts, LossBalance, BiasBalance]
