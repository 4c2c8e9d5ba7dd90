"""The kind `ffn`: networks that transform every position by itself."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any

from pydantic import PositiveFloat, PositiveInt, model_validator
from torch import Tensor, nn

from gptzoo.component import Config, inherited
from gptzoo.components.context import ForwardContext
from gptzoo.components.part import TensorPlan
from gptzoo.components.sublayer import State, Sublayer
from gptzoo.components.tensor_plan import ColumnParallel, RowParallel, check_divisible
from gptzoo.dims import Dims
from gptzoo.reference import Reference


class FeedForward(Sublayer):
    """Base class of the kind `ffn`: transforms each position independently."""

    kind = "ffn"

    def __init__(self, config: Config, dims: Dims):
        super().__init__(config)
        self.dims = dims


class HiddenLayer(FeedForward):
    """What `mlp` and `glu` share: the hidden width, an activation, dropout of the output."""

    class Config(FeedForward.Config):
        multiplier: PositiveFloat | None
        """Hidden width as a multiple of d_model, rounded to the nearest integer; null where d_ff says it."""
        d_ff: PositiveInt | None = None
        """Hidden width, instead of the multiplier."""
        activation: Annotated[Config, Reference("activation")] | None = inherited("activation")
        dropout: float | None = inherited("dropout", "Of the output, before it joins the residual stream.")
        bias: bool | None = inherited("bias")

        @model_validator(mode="before")
        @classmethod
        def _d_ff_replaces_the_multiplier(cls, data: Any) -> Any:
            if isinstance(data, dict) and data.get("d_ff") is not None:
                return {"multiplier": None, **data}
            return data

        def problems(self, dims: Any) -> Iterator[tuple[str, str]]:
            if self.d_ff is None and self.multiplier is None:
                yield "multiplier", "say how wide the hidden layer is: give multiplier or d_ff"
            if self.d_ff is not None and self.multiplier is not None:
                yield "multiplier", "d_ff says already how wide the hidden layer is; give one of the two"
            if not 0 <= (self.dropout or 0) < 1:
                yield "dropout", "should be at least 0 and below 1"

    def __init__(self, config: Any, dims: Any):
        super().__init__(config, dims)
        self.d_ff = config.d_ff or max(1, round(config.multiplier * dims.d_model))
        self.activation = config.activation.build(self.d_ff)
        self.down = nn.Linear(self.d_ff, dims.d_model, bias=config.bias)
        self.down.writes_residual = True  # type: ignore[assignment]
        self.dropout = nn.Dropout(config.dropout)

    def tensor_parallel(self, n: int) -> TensorPlan:
        """A share has some of the hidden units. A subclass adds how what leads to them is cut."""
        check_divisible(n, [(self.d_ff, "hidden units")])
        return {"activation": self.activation, "down": RowParallel()}


class MLP(HiddenLayer):
    """Two linear layers with an activation between: down(activation(up(x)))."""

    name = "mlp"
    paper = "Vaswani et al. 2017, Attention Is All You Need, arXiv:1706.03762, section 3.3"

    class Config(HiddenLayer.Config):
        multiplier: PositiveFloat | None = 4.0

    def __init__(self, config: Any, dims: Any):
        super().__init__(config, dims)
        self.up = nn.Linear(dims.d_model, self.d_ff, bias=config.bias)

    def tensor_parallel(self, n: int) -> TensorPlan:
        return {"up": ColumnParallel(), **super().tensor_parallel(n)}

    def forward(self, x: Tensor, context: ForwardContext, state: State | None = None) -> Tensor:
        return self.dropout(self.down(self.activation(self.up(x))))


class GLU(HiddenLayer):
    """Gated linear unit: down(activation(gate(x)) * up(x)); SwiGLU with silu, GEGLU with gelu, ReGLU with relu."""

    name = "glu"
    paper = "Shazeer 2020, GLU Variants Improve Transformer, arXiv:2002.05202"

    class Config(HiddenLayer.Config):
        multiplier: PositiveFloat | None = 8 / 3
        """Hidden width as a multiple of d_model, rounded to the nearest integer; 8/3 is as large as an mlp with 4."""

    def __init__(self, config: Any, dims: Any):
        super().__init__(config, dims)
        self.gate_up = nn.Linear(dims.d_model, 2 * self.d_ff, bias=config.bias)  # one product for both

    def tensor_parallel(self, n: int) -> TensorPlan:
        return {"gate_up": ColumnParallel((self.d_ff, self.d_ff)), **super().tensor_parallel(n)}

    def forward(self, x: Tensor, context: ForwardContext, state: State | None = None) -> Tensor:
        gate, up = self.gate_up(x).chunk(2, dim=-1)  # (B, T, d_ff) each
        return self.dropout(self.down(self.activation(gate) * up))
