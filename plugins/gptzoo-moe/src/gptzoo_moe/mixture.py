"""Mixture of experts: many feed-forward networks, and a router that selects a few of them for each token."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from pydantic import Field, NonNegativeInt, PositiveInt
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor

import gptzoo
from gptzoo_moe.balance import RouterBalance


class MixtureOfExperts(gptzoo.FeedForward):
    """Mixture of experts (MoE): the weighted sum of `n_active` of `n_experts` networks, selected by a router.

    Experts have no capacity limit, so no token is dropped: tokens are sorted by expert, and each expert runs on its own
    tokens. Shapes: N tokens of the batch, E experts, A active experts per token, C d_model.
    """

    name = "moe"
    paper = "Shazeer et al. 2017, The Sparsely-Gated Mixture-of-Experts Layer, arXiv:1701.06538"

    class Config(gptzoo.FeedForward.Config):
        n_experts: PositiveInt = 8
        """Number of experts that the router selects from."""
        n_active: PositiveInt = 2
        """Number of experts that each token is sent to. At most n_experts."""
        n_shared: NonNegativeInt = 0
        """Number of shared experts, which process every token with weight 1, in addition to `n_experts`
        (arXiv:2401.06066)."""
        shared: Annotated[gptzoo.FeedForward.Config, gptzoo.Reference("ffn")] | None = None
        """One shared network with options of its own, in place of `n_shared` experts (DeepSeek-V2, Qwen3-Next). Null:
        none."""
        shared_gate: bool = False
        """Multiply the output of the shared networks by the sigmoid of a learned projection to one number
        (Qwen3-Next)."""
        expert: Annotated[gptzoo.FeedForward.Config, gptzoo.Reference("ffn")] = gptzoo.by_default("mlp")
        """Feed-forward network of each expert. It must not be a `moe` itself or keep state between tokens."""
        scores: Literal["softmax", "sigmoid"] = "softmax"
        """Function from router logits to scores: softmax over the experts, or sigmoid of each (arXiv:2412.19437)."""
        normalise: bool = True
        """Divide the scores of a token's selected experts by their sum. False: use the scores as weights directly."""
        scale: float = Field(default=1.0, ge=1e-3, le=1e3)
        """Factor on the weights of the selected experts, after `normalise` (DeepSeek-V2, arXiv:2405.04434)."""
        router_bias: bool = False
        """Learn a bias in the router (gpt-oss)."""
        n_groups: PositiveInt = 1
        """Number of groups of consecutive experts. Experts are selected from `n_active_groups` of them
        (arXiv:2405.04434, section 2.2.2)."""
        n_active_groups: PositiveInt | None = None
        """Number of groups that each token is sent to. Default: half of them, and at least one."""
        group_score: Literal["max", "top2"] = "max"
        """Score by which groups are selected: the highest score of an expert in it (DeepSeek-V2), or the sum of the two
        highest (DeepSeek-V3, arXiv:2412.19437)."""
        balance: Annotated[RouterBalance.Config, gptzoo.Reference("router_balance")] | None = gptzoo.by_default("loss")
        """Load balancing of the experts. Null: none."""

        def problems(self, dims: gptzoo.Dims) -> Iterator[tuple[str, str]]:
            if self.n_active > self.n_experts:
                yield "n_active", f"should be at most n_experts, {self.n_experts}, not {self.n_active}"
            if self.n_active == 1 and self.normalise:
                yield "normalise", "should be false with n_active 1: a normalised weight is always 1, with no gradient"
            yield from self._group_problems()
            if self.shared is not None and self.n_shared:
                yield "shared", "should be null with n_shared. Give only one of them."
            if self.shared_gate and self.shared is None and not self.n_shared:
                yield "shared_gate", "has no effect without a shared network. Give `shared` or `n_shared`."
            for option, network in (("expert", self.expert), ("shared", self.shared)):
                if network is None:
                    continue
                component = network.component
                if issubclass(component, MixtureOfExperts):
                    yield option, "is a mixture of experts itself, which is not supported"
                if issubclass(component, gptzoo.Sublayer) and component.new_state is not gptzoo.Sublayer.new_state:
                    yield (
                        option,
                        f"{network.type!r} keeps state from token to token, but an expert receives only some tokens",
                    )

        def _group_problems(self) -> Iterator[tuple[str, str]]:
            group_size = self.n_experts // self.n_groups
            if self.n_experts % self.n_groups:
                yield "n_groups", f"should divide n_experts, {self.n_experts}, not {self.n_groups}"
            elif self.active_groups > self.n_groups:
                yield "n_active_groups", f"should be at most n_groups, {self.n_groups}, not {self.active_groups}"
            elif (n_available := self.active_groups * group_size) < self.n_active:
                yield "n_active", f"should be at most {n_available}, in the active groups, not {self.n_active}"
            elif self.group_score == "top2" and group_size == 1:
                yield "group_score", 'should be "max" for groups of one expert'

        @property
        def active_groups(self) -> int:
            """The number of groups that each token is sent to."""
            return self.n_active_groups or max(1, self.n_groups // 2)

        def canonical(self, dims: gptzoo.Dims) -> MixtureOfExperts.Config:
            options: dict[str, object] = {"n_active_groups": self.active_groups}
            if self.active_groups == self.n_groups:  # groups exclude no expert
                options = {"n_groups": 1, "n_active_groups": 1, "group_score": "max"}
            if self.n_shared == 1:
                options |= {"shared": self.expert, "n_shared": 0}
            if self.balance is not None and self.balance.type == "loss":  # only the loss of training has it
                options["balance"] = None
            return self.model_copy(update=options)

    config: Config

    def __init__(self, config: Config, dims: gptzoo.Dims):
        super().__init__(config, dims)
        self.router = nn.Linear(dims.d_model, config.n_experts, bias=config.router_bias)
        self.experts = nn.ModuleList(config.expert.build(dims) for _ in range(config.n_experts))
        if config.shared is None:
            self.shared = nn.ModuleList(config.expert.build(dims) for _ in range(config.n_shared))
        else:
            self.shared = nn.ModuleList([config.shared.build(dims)])
        self.shared_gate = nn.Linear(dims.d_model, 1, bias=False) if config.shared_gate else None
        self.balance = config.balance.build(config.n_experts) if config.balance else None

    def forward(
        self, x: Tensor, context: gptzoo.ForwardContext, state: gptzoo.State | None = None
    ) -> gptzoo.SublayerOutput:
        tokens = x.flatten(0, 1)  # (N, C)
        scores = self._router_scores(tokens)  # (N, E)
        selection_scores = scores if self.balance is None else self.balance.selection_scores(scores)
        selected = self._in_active_groups(selection_scores).topk(self.config.n_active).indices  # (N, A)
        weights = scores.gather(1, selected)
        if self.config.normalise:
            weights = _normalise(weights)
        if self.config.scale != 1:
            weights = weights * self.config.scale
        positions = context.positions.expand(x.shape[:2]).flatten()  # (N,)
        y = self._dispatch(tokens, selected, weights, positions, context).to(x.dtype).view_as(x)
        gate = None if self.shared_gate is None else self.shared_gate(x).sigmoid()  # (B, T, 1)
        for network in self.shared:
            y = y + (network(x, context) if gate is None else gate * network(x, context))
        return self._with_statistics(y, scores, selected, valid=positions >= 0)

    def _router_scores(self, tokens: Tensor) -> Tensor:
        """Return the scores (N, E) of tokens (N, C), in float32 or wider, so that rounding affects no selection."""
        dtype = torch.promote_types(tokens.dtype, torch.float32)
        with _no_autocast(tokens.device.type):
            bias = None if self.router.bias is None else self.router.bias.to(dtype)
            logits = F.linear(tokens.to(dtype), self.router.weight.to(dtype), bias)
        return logits.softmax(-1) if self.config.scores == "softmax" else logits.sigmoid()

    def _in_active_groups(self, scores: Tensor) -> Tensor:
        """Return the selection scores (N, E) with -inf for experts outside of the active groups of each token."""
        config = self.config
        if config.active_groups == config.n_groups:
            return scores
        grouped = scores.unflatten(-1, (config.n_groups, -1))  # (N, groups, experts of a group)
        best = grouped.amax(-1) if config.group_score == "max" else grouped.topk(2, dim=-1).values.sum(-1)
        active = torch.zeros_like(best, dtype=torch.bool).scatter(1, best.topk(config.active_groups).indices, True)
        return grouped.masked_fill(~active[..., None], float("-inf")).flatten(1)

    def _dispatch(
        self, tokens: Tensor, selected: Tensor, weights: Tensor, positions: Tensor, context: gptzoo.ForwardContext
    ) -> Tensor:
        """Send each token to its experts and return the weighted sums of their outputs, (N, C), in weights' dtype."""
        order = selected.flatten().argsort(stable=True)  # (N A,) sorted by expert, then in the order of the batch
        token_index = order // self.config.n_active
        run = self._run_experts
        if torch.compiler.is_compiling():
            # The numbers of tokens depend on values, so the method is outside of compiled graphs. Each expert is
            # compiled, and all experts share one graph. As a decorator, `disable` would import the compiler with the
            # plugin.
            run = torch.compiler.disable(run, recursive=False)
        y = run(tokens[token_index], selected, positions[token_index], context)
        # Each token gathers the outputs of its experts. Scattering with addition would have no fixed order on a GPU.
        y = y[order.argsort()].unflatten(0, selected.shape)  # (N, A, C)
        return (weights[..., None] * y).sum(1)

    def _run_experts(
        self, tokens: Tensor, selected: Tensor, positions: Tensor, context: gptzoo.ForwardContext
    ) -> Tensor:
        """Run each expert on its part of tokens sorted by expert, (N A, C). Return the outputs in the same order."""
        counts = self._tokens_per_expert(selected)
        outputs = [
            expert(x[None], gptzoo.ForwardContext(pos[None], context.positional))
            for expert, x, pos in zip(self.experts, tokens.split(counts), positions.split(counts), strict=True)
        ]
        return torch.cat([y.flatten(0, 1) for y in outputs])

    def _tokens_per_expert(self, selected: Tensor) -> list[int]:
        n_assignments, n_experts = selected.numel(), self.config.n_experts
        if _is_dry_run(selected):
            # A dry run measures cost, which hardly depends on the distribution. So all experts get the same number.
            return [(n_assignments + expert) // n_experts for expert in range(n_experts)]
        return _histogram(selected, torch.ones_like(selected), n_experts).tolist()

    def _with_statistics(self, y: Tensor, scores: Tensor, selected: Tensor, valid: Tensor) -> gptzoo.SublayerOutput:
        """Return the output with the statistics of the router.

        `losses` balance the load of the experts. `metrics` describe the load and the certainty of the router. Only
        tokens that are `valid` (N,) count, not padding.
        """
        counts = valid[:, None].to(scores.dtype)
        n_valid = counts.sum().clamp(min=1)
        shares = _normalise(scores)
        load = _histogram(selected, counts.expand(selected.shape), self.config.n_experts)
        load = load / (n_valid * self.config.n_active)
        losses = self.balance.losses(load, (shares * counts).sum(0) / n_valid) if self.balance else {}
        with torch.no_grad():
            entropy = (torch.special.entr(shares) * counts).sum() / n_valid
            metrics = {"load": load, "imbalance": load.max() * len(load), "router_entropy": entropy}
        return gptzoo.SublayerOutput(y, losses, metrics)

    def after_optimizer_step(self, metrics: Mapping[str, Tensor]) -> None:
        if self.balance is not None:
            self.balance.after_optimizer_step(metrics["load"])


def _normalise(scores: Tensor) -> Tensor:
    """Divide the scores (N, …) of each token by their sum."""
    return scores / scores.sum(-1, keepdim=True).clamp(min=torch.finfo(scores.dtype).tiny)


def _histogram(selected: Tensor, amounts: Tensor, n_experts: int) -> Tensor:
    """Return the sum (E,) of the amounts (N, A) for each selected expert (N, A)."""
    return amounts.new_zeros(n_experts).scatter_add(0, selected.flatten(), amounts.flatten())


def _is_dry_run(tensor: Tensor) -> bool:
    """Return True for tensors without values: on the meta device, or fake tensors outside of the compiler."""
    return tensor.is_meta or (isinstance(tensor, FakeTensor) and not torch.compiler.is_compiling())


def _no_autocast(device_type: str) -> contextlib.AbstractContextManager[object]:
    if torch.amp.is_autocast_available(device_type):
        return torch.autocast(device_type, enabled=False)
    return contextlib.nullcontext()
