"""The kind `optimizer`, and the optimizers that torch implements: AdamW, SGD, Adafactor."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Annotated, Any, ClassVar

import torch
from pydantic import Field, NonNegativeFloat, PositiveFloat, Strict, ValidationError, model_validator
from pydantic_core import InitErrorDetails
from torch import Tensor, nn

from gptzoo.checkpoint.sharded_tensors import is_dtensor
from gptzoo.component import Component
from gptzoo.strict_model import error_at
from gptzoo.training import eager_optimizers
from gptzoo.training.optim.param_groups import decay_groups as decay_groups
from gptzoo.training.optim.param_groups import lr_groups, lr_scales
from gptzoo.training.width_rules import WidthRule, width_factors

Beta = Annotated[float, Field(ge=0.0, lt=1.0)]
Betas = Annotated[tuple[Beta, Beta], Strict(False)]

MIN_LR = 1e-10
"""Lowest peak learning rate. An update of this size does not change a float32 weight of ordinary size (above 0.002)."""

_LEARNING_RATES = ("lr", "adamw_lr")  # options that every update is scaled by, if an optimizer has them


class Optimizer(Component):
    """Base class of optimizers. Checkpoints store the state of the torch optimizer by parameter name."""

    kind = "optimizer"

    width_rule: ClassVar[WidthRule | None] = None
    """The size of its updates, from which parametrisation `mup` derives the learning rate of each parameter. adam: each
    entry has the size of `lr`. sgd: in proportion to the gradient. adafactor: in proportion to the size of the weights.
    muon: orthogonal matrices. None: unknown, and refused under `mup`. `create` must then use `groups`."""

    class Config(Component.Config):
        lr: PositiveFloat
        """Peak learning rate, scaled by the schedule. At least 1e-10: a lower one changes no float32 weight."""

        @model_validator(mode="after")
        def _check_updates(self) -> Optimizer.Config:
            if errors := list(self._update_problems()):
                raise ValidationError.from_exception_data("optimizer", errors)
            return self

        def _update_problems(self) -> Iterator[InitErrorDetails]:
            """Yield an error for each learning rate that changes no weight."""
            for name in _LEARNING_RATES:
                value = getattr(self, name, None)
                if isinstance(value, float) and 0 < value < MIN_LR:
                    reason = f"trains nothing: updates of {value:g} change no float32 weight. Use at least {MIN_LR:g}"
                    yield error_at(reason, name, value=value)

    config: Config

    def __init__(self, config: Config):
        self.config = config

    def create(self, parameters: Mapping[str, nn.Parameter]) -> torch.optim.Optimizer:
        """Return a torch optimizer for the named parameters. Each of its groups has its own peak `lr`."""
        raise TypeError(f"{type(self).__name__} does not implement create")

    def evaluation_weights(
        self, optimizer: torch.optim.Optimizer, parameters: Mapping[str, nn.Parameter]
    ) -> Mapping[str, Tensor] | None:
        """Return the values that evaluations and saved models use instead of the trained ones, by parameter name.

        Override it for an optimizer that evaluates another point than it trains, such as the average of a
        schedule-free one. It must leave `optimizer` and `parameters` as they are. None: the trained values.
        """
        return None


def describe_optimizer(optimizer: torch.optim.Optimizer) -> str:
    """Return the names of its algorithms, such as `Muon + AdamW (fused)`; fused is one kernel for the whole update."""
    fused: dict[str, bool] = {}
    for group in optimizer.param_groups:
        name = group.get("algorithm", type(optimizer).__name__)
        fused[name] = fused.get(name, True) and bool(group.get("fused"))
    return " + ".join(f"{name} (fused)" if is_fused else name for name, is_fused in fused.items())


class GroupedOptimizer(Optimizer):
    """Base class of optimizers with weight decay for matrices only and an optional learning-rate decay per layer."""

    class Config(Optimizer.Config):
        weight_decay: NonNegativeFloat
        """Decoupled weight decay of matrices, embeddings included; biases and norms have none."""
        layer_lr_decay: float = Field(default=1.0, gt=0.0, le=1.0)
        """Layer-wise decay: learning rate of each block as a fraction of the learning rate of the next block. The last
        block and the head have the full learning rate, the embeddings the lowest."""

        def _update_problems(self) -> Iterator[InitErrorDetails]:
            """Yield the problems of learning rates, and an error for each weight decay that erases the weights.

            With a learning rate above 1 a run diverges, which is reported when it does.
            """
            yield from super()._update_problems()
            for name in _LEARNING_RATES:
                decay_name = name.replace("lr", "weight_decay")
                lr, decay = getattr(self, name, None), getattr(self, decay_name, None)
                if isinstance(lr, float) and isinstance(decay, float) and lr <= 1 <= lr * decay:
                    reason = (
                        "erases the weights: every update at the peak learning rate multiplies them by 1 - "
                        f"{name} * {decay_name} = {1 - lr * decay:g}. Use less than {1 / lr:g}"
                    )
                    yield error_at(reason, decay_name, value=decay)

    config: Config

    def groups(self, parameters: Mapping[str, nn.Parameter], *, eps: float | None = None) -> list[dict[str, Any]]:
        """Return the parameter groups for a torch optimizer, each with its `lr` and `weight_decay`.

        eps: constant that is compared with entries of the gradient, if the optimizer has one. Groups in which a
            parametrisation changes it have an `eps`.
        """
        scales = lr_scales(parameters, self.config.layer_lr_decay)
        width = width_factors(parameters, parameters, self.width_rule, optimizer=self.name)
        return lr_groups(parameters, self.config.lr, self.config.weight_decay, scales, width=width, eps=eps)


class AdamW(GroupedOptimizer):
    """AdamW: Adam with decoupled weight decay of matrices only."""

    name = "adamw"
    paper = "Loshchilov and Hutter 2017, Decoupled Weight Decay Regularization, arXiv:1711.05101"
    width_rule = "adam"

    class Config(GroupedOptimizer.Config):
        lr: PositiveFloat = 1e-3
        weight_decay: NonNegativeFloat = 0.1
        betas: Betas = (0.9, 0.95)
        """Decay rates of the running means of the gradient and of its square."""
        eps: float = Field(default=1e-8, ge=1e-30, le=1.0)
        """Constant added to the denominator, for numerical stability. Below 1e-30 it is 0 in float32, and a weight
        without a gradient becomes NaN. Above 1 it hides the gradient, and nothing is trained."""

    config: Config

    def create(self, parameters: Mapping[str, nn.Parameter]) -> torch.optim.Optimizer:
        config = self.config
        groups = self.groups(parameters, eps=config.eps)
        return eager_optimizers.AdamW(groups, lr=config.lr, betas=config.betas, eps=config.eps, fused=True)


class SGD(GroupedOptimizer):
    """Stochastic gradient descent with momentum."""

    name = "sgd"
    paper = "Sutskever et al. 2013, On the importance of initialization and momentum in deep learning"
    width_rule = "sgd"

    class Config(GroupedOptimizer.Config):
        lr: PositiveFloat = 0.1
        weight_decay: NonNegativeFloat = 0.0
        """Weight decay of matrices, embeddings included, added to the gradient; biases and norms have none."""
        momentum: Beta = 0.9
        """Momentum: fraction of the previous update that is added to the next."""
        nesterov: bool = False
        """Use Nesterov momentum."""

        @model_validator(mode="after")
        def _nesterov_needs_momentum(self) -> SGD.Config:
            if self.nesterov and not self.momentum:
                reason = "needs a momentum above 0"
                raise ValidationError.from_exception_data("sgd", [error_at(reason, "nesterov", value=True)])
            return self

    config: Config

    def create(self, parameters: Mapping[str, nn.Parameter]) -> torch.optim.Optimizer:
        config = self.config
        fused = not any(map(is_dtensor, parameters.values()))  # torch has no fused kernel for DTensors
        optimizer = eager_optimizers.SGD(
            self.groups(parameters), lr=config.lr, momentum=config.momentum, nesterov=config.nesterov, fused=fused
        )
        if config.momentum:
            optimizer.register_step_pre_hook(_add_missing_momentum)
        return optimizer


def _add_missing_momentum(optimizer: torch.optim.Optimizer, args: object, kwargs: object) -> None:
    """Give a parameter that had no gradient so far a momentum of zeros, once others have one.

    The first step would set it to the gradient, which is the same. torch's fused kernel fails if some have none.
    """
    for group in optimizer.param_groups:
        states = {p: optimizer.state.get(p, {}) for p in group["params"] if p.grad is not None}
        if any(state.get("momentum_buffer") is not None for state in states.values()):
            for parameter, state in states.items():
                if state.get("momentum_buffer") is None:
                    optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)


class Adafactor(GroupedOptimizer):
    """Adafactor: stores second moments as row and column sums, and scales updates by the size of the weights."""

    name = "adafactor"
    paper = "Shazeer and Stern 2018, Adafactor: Adaptive Learning Rates with Sublinear Memory Cost, arXiv:1804.04235"
    width_rule = "adafactor"

    class Config(GroupedOptimizer.Config):
        lr: PositiveFloat = 1e-2
        """Peak learning rate, scaled by the schedule. At each step, the smaller of that and 1/sqrt(step) is multiplied
        by the root mean square of the weights."""
        weight_decay: NonNegativeFloat = 0.0
        beta2_decay: float = Field(default=-0.8, lt=0.0)
        """Exponent of the second moment's decay rate, which is 1 - t^beta2_decay at step t."""
        clip_threshold: float = Field(default=1.0, ge=1.0)
        """Largest root mean square of an update, before it is scaled to the size of the weights."""
        min_scale: float = Field(default=1e-3, ge=1e-8)
        """Lower bound on the weights' root mean square in scaling the step, so that zero weights can change. At least
        1e-8, because smaller steps are lost in float32."""

    config: Config

    def create(self, parameters: Mapping[str, nn.Parameter]) -> torch.optim.Optimizer:
        config = self.config
        return _AdafactorWithoutWaits(
            self.groups(parameters),
            lr=config.lr,
            beta2_decay=config.beta2_decay,
            eps=(None, config.min_scale),
            d=config.clip_threshold,
        )


class _AdafactorWithoutWaits(eager_optimizers.Adafactor):
    """torch's Adafactor. On CUDA, the same update without waits of the host.

    torch reads two norms of every parameter, and the host waits for the GPU each time.
    """

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Update every parameter that has a gradient."""
        parameters = [p for group in self.param_groups for p in group["params"] if p.grad is not None]
        if not all(parameter.is_cuda and not is_dtensor(parameter) for parameter in parameters):
            loss: float | None = super().step(closure)
            return loss
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            params: list[Tensor] = []
            grads: list[Tensor] = []
            others: tuple[list[Any], ...] = ([], [], [], [])
            self._init_group(group, params, grads, *others)  # makes the state of new parameters
            for parameter, gradient in zip(params, grads, strict=True):
                _adafactor_update(parameter, gradient, self.state[parameter], group)
        return loss


def _adafactor_update(parameter: Tensor, gradient: Tensor, state: dict[str, Any], group: Mapping[str, Any]) -> None:
    """Update a parameter as `torch.optim.Adafactor` does. `state["step"]` is on the host."""
    eps1, eps2 = group["eps"]
    eps1 = torch.finfo(parameter.dtype).eps if eps1 is None else eps1
    state["step"] += 1
    step = state["step"].item()
    weight = step ** group["beta2_decay"]
    root_mean_square = parameter.norm(2) / parameter.numel() ** 0.5
    alpha = root_mean_square.clamp(min=eps2) * min(group["lr"], 1 / step**0.5)
    if group["weight_decay"] != 0:
        parameter.mul_(1 - group["lr"] * group["weight_decay"])
    if gradient.dim() > 1:
        row_var, col_var = state["row_var"], state["col_var"]
        row_var.lerp_(gradient.square().mean(dim=-1, keepdim=True), weight)
        col_var.lerp_(gradient.square().mean(dim=-2, keepdim=True), weight)
        variance = row_var @ col_var / row_var.mean(dim=-2, keepdim=True).clamp(min=eps1)
    else:
        state["variance"].lerp_(gradient.square(), weight)
        variance = state["variance"].clone()
    update = variance.clamp_(min=eps1 * eps1).rsqrt_().mul_(gradient)
    size = update.norm(2) / (update.numel() ** 0.5 * group["d"])
    parameter.sub_(update * (alpha / size.clamp(min=1.0)))
