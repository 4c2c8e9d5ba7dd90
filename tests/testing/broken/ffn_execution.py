"""Broken feed-forward networks whose fault shows when they run twice, are compiled, or run on the meta device."""

from __future__ import annotations

import random

import torch
from testing.broken.ffn import Mlp
from torch import Tensor, nn

import gptzoo

# ---------------------------------------------------------------------- side effects of a forward pass


class PythonRandom(Mlp):
    """Scales its output in training by Python's own random numbers."""

    name = "python_random"

    def forward(
        self, x: Tensor, context: gptzoo.ForwardContext, state: gptzoo.State | None = None
    ) -> Tensor | gptzoo.SublayerOutput:
        y = super().forward(x, context)
        return y * random.random() if self.training else y


class ScalesInTraining(Mlp):
    """Scales its output in training, as if it had dropout."""

    name = "scales_in_training"

    def forward(self, x: Tensor, context: gptzoo.ForwardContext, state: gptzoo.State | None = None) -> Tensor:
        return super().forward(x, context) / (0.9 if self.training else 1.0)


class UpdatesBufferInForward(Mlp):
    """Updates the balance of a router in the forward pass."""

    name = "updates_buffer_in_forward"

    balance: Tensor

    def __init__(self, config: gptzoo.Config, dims: gptzoo.Dims):
        super().__init__(config, dims)
        self.register_buffer("balance", torch.empty(dims.d_model))

    def initialise(self, rng: gptzoo.Rng) -> None:
        nn.init.zeros_(self.balance)

    def forward(self, x: Tensor, context: gptzoo.ForwardContext, state: gptzoo.State | None = None) -> Tensor:
        y = super().forward(x, context) + self.balance
        if self.training:
            with torch.no_grad():
                self.balance -= 0.01 * y.detach().float().mean((0, 1)).sign()
        return y


class WritesToInput(Mlp):
    """Scales its input in place to save memory."""

    name = "writes_to_input"

    def forward(
        self, x: Tensor, context: gptzoo.ForwardContext, state: gptzoo.State | None = None
    ) -> Tensor | gptzoo.SublayerOutput:
        return super().forward(x.mul_(1.5) if not torch.is_grad_enabled() else x * 1.5, context)


class AlternatingSign(Mlp):
    """Changes its sign on every call, so recomputing a block gives another result."""

    name = "alternating_sign"

    def __init__(self, config: gptzoo.Config, dims: gptzoo.Dims):
        super().__init__(config, dims)
        self.n_calls = 0

    def forward(
        self, x: Tensor, context: gptzoo.ForwardContext, state: gptzoo.State | None = None
    ) -> Tensor | gptzoo.SublayerOutput:
        self.n_calls += 1
        return super().forward(x * (-1) ** self.n_calls, context)


# ---------------------------------------------------------------------- compilation and accounting


class GraphBreak(Mlp):
    """Reads a value of a tensor, which breaks the graph."""

    name = "graph_break"

    def forward(
        self, x: Tensor, context: gptzoo.ForwardContext, state: gptzoo.State | None = None
    ) -> Tensor | gptzoo.SublayerOutput:
        y = super().forward(x, context)
        return y.clamp(-1e3, 1e3) if y.abs().max().item() > 1e3 else y


class OneGraphPerLayer(Mlp):
    """Computes with its layer as a Python number."""

    name = "one_graph_per_layer"

    def forward(self, x: Tensor, context: gptzoo.ForwardContext, state: gptzoo.State | None = None) -> Tensor:
        return super().forward(x, context) / (1 + self.dims.layer)


class BatchSizeAsNumber(Mlp):
    """Turns the batch size into a Python number, which export fixes."""

    name = "batch_size_as_number"

    def forward(self, x: Tensor, context: gptzoo.ForwardContext, state: gptzoo.State | None = None) -> Tensor:
        return super().forward(x, context) / len(x) * x.shape[0]


class SkipsWorkWhenCompiled(Mlp):
    """Returns its input while it is compiled."""

    name = "skips_work_when_compiled"

    def forward(
        self, x: Tensor, context: gptzoo.ForwardContext, state: gptzoo.State | None = None
    ) -> Tensor | gptzoo.SublayerOutput:
        return x if torch.compiler.is_compiling() else super().forward(x, context)


class SkipsWorkOnMeta(Mlp):
    """Does less work on the meta device, as if its kernel could not run there."""

    name = "skips_work_on_meta"

    def forward(
        self, x: Tensor, context: gptzoo.ForwardContext, state: gptzoo.State | None = None
    ) -> Tensor | gptzoo.SublayerOutput:
        return x * self.up.weight.sum() * self.down.weight.sum() if x.is_meta else super().forward(x, context)


class WorkGrowsWithLayer(Mlp):
    """Runs more often in deeper layers, so few layers do not predict the cost of many."""

    name = "work_grows_with_layer"

    def forward(
        self, x: Tensor, context: gptzoo.ForwardContext, state: gptzoo.State | None = None
    ) -> Tensor | gptzoo.SublayerOutput:
        for _ in range(1 + self.dims.layer**2):
            x = super().forward(x, context)
        return x
