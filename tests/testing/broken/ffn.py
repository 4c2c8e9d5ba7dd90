"""Broken feed-forward networks, each with one fault that somebody has made before."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from pydantic import PositiveFloat
from torch import Tensor, nn

import gptzoo


class Mlp(gptzoo.FeedForward):
    """A correct network: up, silu, down. The classes below override it."""

    def __init__(self, config: gptzoo.Config, dims: gptzoo.Dims):
        super().__init__(config, dims)
        self.up = nn.Linear(dims.d_model, dims.d_model)
        self.down = nn.Linear(dims.d_model, dims.d_model)
        self.down.writes_residual = True  # type: ignore[assignment]

    def forward(
        self, x: Tensor, context: gptzoo.ForwardContext, state: gptzoo.State | None = None
    ) -> Tensor | gptzoo.SublayerOutput:
        return self.down(F.silu(self.up(x)))


class MlpWithScale(Mlp):
    """A correct network with a learned scale of the output. Some classes below override it."""

    shape: tuple[int, ...] = (1,)

    def __init__(self, config: gptzoo.Config, dims: gptzoo.Dims):
        super().__init__(config, dims)
        self.scale = nn.Parameter(torch.empty(self.shape))

    def initialise(self, rng: gptzoo.Rng) -> None:
        nn.init.ones_(self.scale)

    def forward(self, x: Tensor, context: gptzoo.ForwardContext, state: gptzoo.State | None = None) -> Tensor:
        return super().forward(x, context) * self.scale


# ---------------------------------------------------------------------- tokens that must not matter


class LossCountsPadding(Mlp):
    """Averages its balance loss over all tokens, including padding."""

    name = "loss_counts_padding"

    def forward(
        self, x: Tensor, context: gptzoo.ForwardContext, state: gptzoo.State | None = None
    ) -> gptzoo.SublayerOutput:
        hidden = F.silu(self.up(x))
        return gptzoo.SublayerOutput(self.down(hidden), losses={"balance": 0.01 * hidden.mean((0, 1)).square().sum()})


class NoStateForPreviousToken(Mlp):
    """Adds the previous token, which it does not have at the start of a chunk, because it keeps no state."""

    name = "no_state_for_previous_token"

    def forward(self, x: Tensor, context: gptzoo.ForwardContext, state: gptzoo.State | None = None) -> Tensor:
        x = x * (context.positions >= 0)[..., None]
        previous = F.pad(x, (0, 0, 1, 0))[:, :-1]
        if context.documents is not None:
            is_first = context.documents != F.pad(context.documents, (1, 0), value=-1)[:, :-1]
            previous = previous.masked_fill(is_first[..., None], 0.0)
        return super().forward(x + previous, context)


# ---------------------------------------------------------------------- building and initial values


class UninitialisedParameter(Mlp):
    """Has a scale that `initialise` does not fill."""

    name = "uninitialised_parameter"

    def __init__(self, config: gptzoo.Config, dims: gptzoo.Dims):
        super().__init__(config, dims)
        self.scale = nn.Parameter(torch.empty(dims.d_model))

    def forward(self, x: Tensor, context: gptzoo.ForwardContext, state: gptzoo.State | None = None) -> Tensor:
        return super().forward(x, context) * self.scale


class ForgetsWritesResidual(Mlp):
    """Does not say that its last layer writes the residual stream, with a scale per channel behind it."""

    name = "forgets_writes_residual"

    def __init__(self, config: gptzoo.Config, dims: gptzoo.Dims):
        super().__init__(config, dims)
        self.down = nn.Linear(dims.d_model, dims.d_model)
        self.register_buffer("scale", torch.empty(dims.d_model))

    def initialise(self, rng: gptzoo.Rng) -> None:
        nn.init.uniform_(self.scale, 0.5, 2, generator=rng("scale"))

    def forward(self, x: Tensor, context: gptzoo.ForwardContext, state: gptzoo.State | None = None) -> Tensor:
        return super().forward(x, context) * self.scale


class TensorAttribute(Mlp):
    """Keeps a table as a plain tensor attribute instead of a buffer."""

    name = "tensor_attribute"

    def __init__(self, config: gptzoo.Config, dims: gptzoo.Dims):
        super().__init__(config, dims)
        self.table = torch.ones(dims.d_model)


class SharedModule(Mlp):
    """Uses one dropout module in two places."""

    name = "shared_module"

    def __init__(self, config: gptzoo.Config, dims: gptzoo.Dims):
        super().__init__(config, dims)
        self.drop_before = nn.Dropout(0.0)
        self.drop_after = self.drop_before


class SharedWeight(Mlp):
    """Ties two of its matrices."""

    name = "shared_weight"

    def __init__(self, config: gptzoo.Config, dims: gptzoo.Dims):
        super().__init__(config, dims)
        self.down.weight = self.up.weight


class ComputesInConstructor(Mlp):
    """Computes a table in the constructor, on a device of its own choice."""

    name = "computes_in_constructor"

    table: Tensor

    def __init__(self, config: gptzoo.Config, dims: gptzoo.Dims):
        super().__init__(config, dims)
        self.register_buffer("table", torch.linspace(0, 1, dims.d_model, device="cpu"))

    def initialise(self, rng: gptzoo.Rng) -> None:
        self.table.copy_(torch.linspace(0, 1, len(self.table)))


class ScalarParameter(MlpWithScale):
    """Has a 0-dimensional scale, which FSDP refuses."""

    name = "scalar_parameter"
    shape = ()


class GlobalGenerator(MlpWithScale):
    """Draws its initial value from torch's global generator."""

    name = "global_generator"

    def initialise(self, rng: gptzoo.Rng) -> None:
        self.scale.copy_(torch.randn(self.shape))


class SameValuesInAllLayers(MlpWithScale):
    """Seeds its own generator with a number that all layers share."""

    name = "same_values_in_all_layers"
    shared_seed: Any = None

    def initialise(self, rng: gptzoo.Rng) -> None:
        if self.dims.layer == 0:
            type(self).shared_seed = rng("scale").initial_seed()
        nn.init.normal_(self.scale, generator=torch.Generator().manual_seed(self.shared_seed))


# ---------------------------------------------------------------------- state dict


class BufferFromForward(Mlp):
    """Registers a buffer in its first forward pass."""

    name = "buffer_from_forward"

    def forward(self, x: Tensor, context: gptzoo.ForwardContext, state: gptzoo.State | None = None) -> Tensor:
        if not hasattr(self, "window"):
            self.register_buffer("window", torch.ones(x.shape[-1]))
        return super().forward(x, context) * self.window


class RandomValueNotSaved(Mlp):
    """Has a random projection that is not in the state dict."""

    name = "random_value_not_saved"

    projection: Tensor

    def __init__(self, config: gptzoo.Config, dims: gptzoo.Dims):
        super().__init__(config, dims)
        self.register_buffer("projection", torch.empty(dims.d_model, dims.d_model), persistent=False)

    def initialise(self, rng: gptzoo.Rng) -> None:
        nn.init.normal_(self.projection, std=0.2, generator=rng("projection"))

    def forward(
        self, x: Tensor, context: gptzoo.ForwardContext, state: gptzoo.State | None = None
    ) -> Tensor | gptzoo.SublayerOutput:
        return super().forward(x @ self.projection, context)


# ---------------------------------------------------------------------- unused parameters and options


class UnusedParameter(MlpWithScale):
    """Has a scale that it does not use."""

    name = "unused_parameter"

    def forward(
        self, x: Tensor, context: gptzoo.ForwardContext, state: gptzoo.State | None = None
    ) -> Tensor | gptzoo.SublayerOutput:
        return Mlp.forward(self, x, context)


class SkipsUndeclared(MlpWithScale):
    """Uses its scale in about half of the training steps, but does not set `may_skip_parameters`."""

    name = "skips_undeclared"

    def forward(
        self, x: Tensor, context: gptzoo.ForwardContext, state: gptzoo.State | None = None
    ) -> Tensor | gptzoo.SublayerOutput:
        y = Mlp.forward(self, x, context)
        return y * self.scale if float(x.detach()[0, 0, 0]) > 0 else y


class UnusedOption(Mlp):
    """Has an option `sharpness` that it does not use."""

    name = "unused_option"

    class Config(Mlp.Config):
        sharpness: PositiveFloat = 1.0
        residual_scale: float = 0.5

    config: Config

    def forward(self, x: Tensor, context: gptzoo.ForwardContext, state: gptzoo.State | None = None) -> Tensor:
        return super().forward(x, context) * self.config.residual_scale


class WrongTensorParallelPlan(MlpWithScale):
    """Declares a scale as replicated although every rank computes only a part of its gradient."""

    name = "wrong_tensor_parallel_plan"

    def tensor_parallel(self, n: int) -> Any:
        up, down = gptzoo.ColumnParallel(), gptzoo.RowParallel()
        return {"up": up, "scale": gptzoo.Replicated(), "down": down}

    def forward(self, x: Tensor, context: gptzoo.ForwardContext, state: gptzoo.State | None = None) -> Tensor:
        return self.down(F.silu(self.up(x)) * self.scale)


class FusedRowsMissing(Mlp):
    """Declares the blocks of fewer rows than its parameter has."""

    name = "fused_rows_missing"

    def fused_blocks(self) -> dict[str, gptzoo.FusedBlocks]:
        return {"up.weight": gptzoo.FusedBlocks((16, 8))}


class FusedNotDeclared(Mlp):
    """Splits two matrices over processes, and does not say so to optimizers."""

    name = "fused_not_declared"

    def tensor_parallel(self, n: int) -> gptzoo.TensorPlan:
        return {"up": gptzoo.ColumnParallel((16, 16)), "down": gptzoo.RowParallel()}


class GrowsWithWidth(Mlp):
    """Multiplies its output by a factor that grows with the width."""

    name = "grows_with_width"

    def forward(
        self, x: Tensor, context: gptzoo.ForwardContext, state: gptzoo.State | None = None
    ) -> Tensor | gptzoo.SublayerOutput:
        return super().forward(x, context) * self.dims.d_model
