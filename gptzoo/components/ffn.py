"""The kind `ffn`: networks that transform each position independently."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated

from pydantic import Field, PositiveFloat, PositiveInt, model_validator
from torch import Tensor, nn

from gptzoo.component import Inherited, inherited
from gptzoo.components.activation import Activation
from gptzoo.components.context import ForwardContext
from gptzoo.components.part import FusedBlocks, TensorPlan
from gptzoo.components.sublayer import State, Sublayer
from gptzoo.components.tensor_plan import ColumnParallel, RowParallel, check_divisible
from gptzoo.dims import Dims
from gptzoo.reference import Reference


class FeedForward(Sublayer):
    """Base class of the kind `ffn`: transforms each position independently."""

    kind = "ffn"

    class Config(Sublayer.Config):
        """The options of a feed-forward network."""

        def build(self, dims: Dims) -> FeedForward:
            """Construct the network for the layer `dims.layer`."""
            network: FeedForward = super().build(dims)
            return network

    config: Config

    def __init__(self, config: Config, dims: Dims):
        super().__init__(config)
        self.dims = dims


class HiddenLayer(FeedForward):
    """Base class of `mlp` and `glu`: a hidden layer with an activation, an output projection and dropout."""

    class Config(FeedForward.Config):
        multiplier: PositiveFloat | None
        """Hidden width divided by d_model. The width is rounded to the nearest integer. Omit it if `d_ff` is given."""
        d_ff: PositiveInt | None = None
        """Hidden width in units. Default: `multiplier` times d_model."""
        activation: Inherited[Annotated[Activation.Config, Reference("activation")]] = inherited("activation")
        """Activation function of the hidden layer."""
        dropout: Inherited[float] = inherited("dropout")
        """Dropout probability for the output of the network, before the residual addition."""
        bias: Inherited[bool] = inherited("bias")
        """Learn a bias in every linear layer of the network."""

        @model_validator(mode="before")
        @classmethod
        def _default_multiplier_to_none(cls, data: object) -> object:
            if isinstance(data, dict) and data.get("d_ff") is not None:
                return {"multiplier": None, **data}
            return data

        def problems(self, dims: Dims) -> Iterator[tuple[str, str]]:
            if self.d_ff is None and self.multiplier is None:
                yield "multiplier", "the hidden width is not set. Give multiplier or d_ff."
            if self.d_ff is not None and self.multiplier is not None:
                yield "multiplier", "d_ff sets the hidden width already. Give only one of them."
            if not 0 <= (self.dropout or 0) < 1:
                yield "dropout", "should be at least 0 and below 1"

        def hidden_width(self, dims: Dims) -> int:
            """Return the number of hidden units in a model of `dims`."""
            return self.d_ff or max(1, round((self.multiplier or 0) * dims.d_model))

        def canonical(self, dims: Dims) -> HiddenLayer.Config:
            return self.model_copy(update={"d_ff": self.hidden_width(dims), "multiplier": None})

    config: Config

    def __init__(self, config: Config, dims: Dims):
        super().__init__(config, dims)
        self.d_ff = config.hidden_width(dims)
        self.activation = config.activation.build(self.d_ff)
        self.down = nn.Linear(self.d_ff, dims.d_model, bias=config.bias)
        self.down.writes_residual = True  # type: ignore[assignment]
        self.dropout = nn.Dropout(config.dropout)

    def tensor_parallel(self, n: int) -> TensorPlan:
        """Split the hidden units. Subclasses add the split of the layers before the activation."""
        check_divisible(n, [(self.d_ff, "hidden units")])
        return {"activation": self.activation, "down": RowParallel()}


class MLP(HiddenLayer):
    """Two linear layers with an activation in between: down(activation(up(x)))."""

    name = "mlp"
    paper = "Vaswani et al. 2017, Attention Is All You Need, arXiv:1706.03762, section 3.3"

    class Config(HiddenLayer.Config):
        multiplier: PositiveFloat | None = 4.0

    config: Config

    def __init__(self, config: Config, dims: Dims):
        super().__init__(config, dims)
        self.up = nn.Linear(dims.d_model, self.d_ff, bias=config.bias)

    def tensor_parallel(self, n: int) -> TensorPlan:
        return {"up": ColumnParallel(), **super().tensor_parallel(n)}

    def forward(self, x: Tensor, context: ForwardContext, state: State | None = None) -> Tensor:
        y: Tensor = self.dropout(self.down(self.activation(self.up(x))))
        return y


class GLU(HiddenLayer):
    """Gated linear unit: down(activation(gate(x)) * up(x)).

    With `silu` it is SwiGLU. With `gelu` it is GEGLU. With `relu` it is ReGLU.
    """

    name = "glu"
    paper = "Shazeer 2020, GLU Variants Improve Transformer, arXiv:2002.05202"

    class Config(HiddenLayer.Config):
        multiplier: PositiveFloat | None = 8 / 3
        """Hidden width divided by d_model. The width is rounded to the nearest integer. Omit it if `d_ff` is given.
        With the default of 8/3, a `glu` has about as many parameters as an `mlp` with multiplier 4."""
        limit: Annotated[float, Field(ge=1e-3)] | None = None
        """Limit by clamping: of gate(x) from above, of up(x) in both directions (gpt-oss, arXiv:2508.10925). Null: no
        limit."""
        shift: float = 0.0
        """Constant added to up(x), after clamping (1 in gpt-oss)."""

    config: Config

    def __init__(self, config: Config, dims: Dims):
        super().__init__(config, dims)
        self.gate_up = nn.Linear(dims.d_model, 2 * self.d_ff, bias=config.bias)  # both in one matrix product

    def fused_blocks(self) -> Mapping[str, FusedBlocks]:
        return {"gate_up.weight": FusedBlocks((self.d_ff, self.d_ff))}

    def tensor_parallel(self, n: int) -> TensorPlan:
        return {"gate_up": ColumnParallel((self.d_ff, self.d_ff)), **super().tensor_parallel(n)}

    def forward(self, x: Tensor, context: ForwardContext, state: State | None = None) -> Tensor:
        gate, up = self.gate_up(x).chunk(2, dim=-1)  # (B, T, d_ff) each
        if (limit := self.config.limit) is not None:
            gate, up = gate.clamp(max=limit), up.clamp(-limit, limit)
        if self.config.shift:
            up = up + self.config.shift
        y: Tensor = self.dropout(self.down(self.activation(gate) * up))
        return y
