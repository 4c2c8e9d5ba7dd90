"""Mixture of experts: many feed-forward networks, of which a router gives each token a few."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal

import torch
import torch.nn.functional as F
from pydantic import NonNegativeInt, PositiveInt
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor

import gptzoo


class MixtureOfExperts(gptzoo.FeedForward):
    """Sends each token to `n_active` of `n_experts` networks and adds what they return, weighted by the router.

    No expert has a capacity, so no token is dropped: tokens are sorted by expert, and each expert runs on its own, be
    they many or none. Shapes: N tokens of the batch, E experts, A active, C d_model.
    """

    name = "moe"
    paper = "Shazeer et al. 2017, The Sparsely-Gated Mixture-of-Experts Layer, arXiv:1701.06538"

    class Config(gptzoo.FeedForward.Config):
        n_experts: PositiveInt = 8
        """Networks that the router chooses from."""
        n_active: PositiveInt = 2
        """Networks that each token is sent to."""
        n_shared: NonNegativeInt = 0
        """Networks beside these that every token passes, with weight 1 (arXiv:2401.06066)."""
        expert: Annotated[gptzoo.Config, gptzoo.Reference("ffn")] = gptzoo.by_default("mlp")
        """What each of the networks is."""
        scores: Literal["softmax", "sigmoid"] = "softmax"
        """Of the router: softmax over the experts, or each by itself (arXiv:2412.19437)."""
        normalise: bool = True
        """Divide the scores of the chosen by their sum; otherwise they are the weights as they are."""
        balance: Annotated[gptzoo.Config, gptzoo.Reference("router_balance")] | None = gptzoo.by_default("loss")
        """What keeps the experts busy alike; null leaves it to chance."""

        def problems(self, dims: Any) -> Iterator[tuple[str, str]]:
            if self.n_active > self.n_experts:
                yield "n_active", f"{self.n_active} of {self.n_experts} experts cannot be active"
            if self.n_active == 1 and self.normalise:
                yield "normalise", "makes the weight of the one active expert always 1, so the router does not learn"
            if issubclass(self.expert.component, MixtureOfExperts):
                yield "expert", "is a mixture itself; a router inside a router is not supported"
            if self.expert.component.new_state is not gptzoo.Sublayer.new_state:
                yield "expert", f"{self.expert.type!r} remembers earlier tokens, but an expert sees only some of them"

    def __init__(self, config: Any, dims: Any):
        super().__init__(config, dims)
        self.router = nn.Linear(dims.d_model, config.n_experts, bias=False)
        self.experts = nn.ModuleList(config.expert.build(dims) for _ in range(config.n_experts))
        self.shared = nn.ModuleList(config.expert.build(dims) for _ in range(config.n_shared))
        self.balance = config.balance.build(config.n_experts) if config.balance else None

    def forward(self, x: Tensor, context: gptzoo.ForwardContext, state: Any = None) -> gptzoo.SublayerOutput:
        tokens = x.flatten(0, 1)  # (N, C)
        scores = self._scores(tokens)  # (N, E)
        for_choice = scores if self.balance is None else self.balance.for_choice(scores)
        chosen = for_choice.topk(self.config.n_active).indices  # (N, A)
        weights = scores.gather(1, chosen)
        if self.config.normalise:
            weights = _normalised(weights)
        positions = context.positions.expand(x.shape[:2]).flatten()  # (N,)
        y = self._mixed(tokens, chosen, weights, positions, context).to(x.dtype).view_as(x)
        for expert in self.shared:
            y = y + expert(x, context)
        return self._with_statistics(y, scores, chosen, valid=positions >= 0)

    def _scores(self, tokens: Tensor) -> Tensor:
        """(N, C) -> (N, E), in float32 at least: what is chosen should not hang on rounding."""
        dtype = torch.promote_types(tokens.dtype, torch.float32)
        with _no_autocast(tokens.device.type):
            logits = F.linear(tokens.to(dtype), self.router.weight.to(dtype))
        return logits.softmax(-1) if self.config.scores == "softmax" else logits.sigmoid()

    def _mixed(
        self, tokens: Tensor, chosen: Tensor, weights: Tensor, positions: Tensor, context: gptzoo.ForwardContext
    ) -> Tensor:
        """What the chosen experts make of each token, weighted and added up, (N, C), in the dtype of the weights."""
        order = chosen.flatten().argsort(stable=True)  # (N A,) the chosen by expert, each in the order of the batch
        token = order // self.config.n_active
        run = self._each_on_its_own
        if torch.compiler.is_compiling():  # as a decorator this would import the compiler with the plugin
            run = torch.compiler.disable(run, recursive=False)
        y = run(tokens[token], chosen, positions[token], context)
        # Each token gathers its own rows: to add rows up into tokens would have no fixed order on a GPU.
        y = y[order.argsort()].unflatten(0, chosen.shape)  # (N, A, C)
        return (weights[..., None] * y).sum(1)

    def _each_on_its_own(
        self, rows: Tensor, chosen: Tensor, positions: Tensor, context: gptzoo.ForwardContext
    ) -> Tensor:
        """Rows sorted by expert (N A, C) -> what each expert makes of its part, (N A, C).

        Its parts depend on values, so it is in no compiled graph; each expert is in one, and all share it.
        """
        n_rows = self._rows_of_each(chosen)
        parts = zip(self.experts, rows.split(n_rows), positions.split(n_rows), strict=True)
        outputs = [expert(x[None], gptzoo.ForwardContext(at[None], context.positional)) for expert, x, at in parts]
        return torch.cat([y.flatten(0, 1) for y in outputs])

    def _rows_of_each(self, chosen: Tensor) -> list[int]:
        """How many of the N A rows each expert runs on."""
        n_rows, n_experts = chosen.numel(), self.config.n_experts
        if _has_no_values(chosen):
            # A cost is asked for, not a result. It does not depend on who gets which row, so let all have as many.
            return [(n_rows + expert) // n_experts for expert in range(n_experts)]
        return _histogram(chosen, torch.ones_like(chosen), n_experts).tolist()

    def _with_statistics(self, y: Tensor, scores: Tensor, chosen: Tensor, valid: Tensor) -> gptzoo.SublayerOutput:
        """The balance loss and how the router is doing, over the tokens that are `valid` (N,), not padding."""
        counts = valid[:, None].to(scores.dtype)
        n_valid = counts.sum().clamp(min=1)
        shares = _normalised(scores)
        load = _histogram(chosen, counts.expand(chosen.shape), self.config.n_experts) / (n_valid * self.config.n_active)
        losses = self.balance.losses(load, (shares * counts).sum(0) / n_valid) if self.balance else {}
        with torch.no_grad():
            entropy = (torch.special.entr(shares) * counts).sum() / n_valid
            metrics = {"load": load, "imbalance": load.max() * len(load), "router_entropy": entropy}
        return gptzoo.SublayerOutput(y, losses, metrics)

    def after_optimizer_step(self, metrics: Mapping[str, Tensor]) -> None:
        if self.balance is not None:
            self.balance.after_optimizer_step(metrics["load"])


def _normalised(scores: Tensor) -> Tensor:
    """(N, …) -> (N, …), each row divided by its sum."""
    return scores / scores.sum(-1, keepdim=True).clamp(min=torch.finfo(scores.dtype).tiny)


def _histogram(chosen: Tensor, amounts: Tensor, n_experts: int) -> Tensor:
    """The sum of the amounts (N, A) for each expert, (E,)."""
    return amounts.new_zeros(n_experts).scatter_add(0, chosen.flatten(), amounts.flatten())


def _has_no_values(tensor: Tensor) -> bool:
    """Whether a model is only being rehearsed: on the meta device, or with fake tensors that no compiler traces."""
    return tensor.is_meta or (isinstance(tensor, FakeTensor) and not torch.compiler.is_compiling())


def _no_autocast(device_type: str) -> contextlib.AbstractContextManager[Any]:
    if torch.amp.is_autocast_available(device_type):
        return torch.autocast(device_type, enabled=False)
    return contextlib.nullcontext()
