"""Components that are broken on purpose, each in a way that somebody has broken one before."""

from __future__ import annotations

import contextlib
import hashlib
import random
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from pydantic import PositiveFloat, PositiveInt
from torch import Tensor, nn

import gptzoo


def components() -> list[type[gptzoo.Component]]:
    """All that this file has."""
    classes = [value for value in globals().values() if isinstance(value, type)]
    return [one for one in classes if issubclass(one, gptzoo.Component) and one.__module__ == __name__ and one.name]


# ---------------------------------------------------------------------- attention


class Spelled(gptzoo.MultiHeadAttention):
    """What the broken attentions below share: scores, a mask that each may get wrong, softmax, weighted sum."""

    def attend(self, q: Tensor, k: Tensor, v: Tensor, context: Any, k_pos: Tensor) -> tuple[Tensor, Tensor | None]:
        scores = q @ k.mT * self.d_head**-0.5  # (B, H, T, S)
        if (bias := context.bias(k_pos)) is not None:
            scores = scores + bias
        weights = scores.masked_fill(~self.mask(context, k_pos), float("-inf")).softmax(-1)
        return weights @ v, self.shown(scores, weights) if "attention" in context.capture else None

    def mask(self, context: Any, k_pos: Tensor) -> Tensor:
        return context.attention_mask(k_pos, self.window)

    def shown(self, scores: Tensor, weights: Tensor) -> Tensor:
        return weights


class Acausal(Spelled):
    """Masks what is no key, and forgets the future."""

    name = "acausal"

    def mask(self, context: Any, k_pos: Tensor) -> Tensor:
        return (k_pos >= 0)[:, None, None, :]


class CausalInEval(Spelled):
    """Shows the future in training only: fine in every generation, too good in every loss."""

    name = "causal_in_eval"

    def mask(self, context: Any, k_pos: Tensor) -> Tensor:
        return context.attention_mask(k_pos, self.window) | torch.tensor(self.training)


class OneWay(Spelled):
    """Lists noncausal, but makes its mask of positions alone."""

    name = "one_way"

    def mask(self, context: Any, k_pos: Tensor) -> Tensor:
        return super().mask(context, k_pos) & (k_pos[:, None, None, :] <= context.positions[:, None, :, None])


class SeesPadding(Spelled):
    """Compares positions, of which padding has the smallest."""

    name = "sees_padding"

    def mask(self, context: Any, k_pos: Tensor) -> Tensor:
        visible = k_pos[:, None, None, :] <= context.positions[:, None, :, None]
        if context.documents is not None:
            visible = visible & (context.documents[:, None, :, None] == context.documents[:, None, None, :])
        return visible


class MixesDocuments(Spelled):
    """Lists documents in honours by inheritance, with a mask that does not know them."""

    name = "mixes_documents"

    def mask(self, context: Any, k_pos: Tensor) -> Tensor:
        q, k = context.positions[:, None, :, None], k_pos[:, None, None, :]
        return ((k >= 0) & (k <= q)) | (q < 0)


class SmallCache(Spelled):
    """Has room for one token less than its window."""

    name = "small_cache"

    class Config(Spelled.Config):
        window: PositiveInt | None = 4

    def new_state(self, batch_size: int, max_length: int, *, device: Any, dtype: torch.dtype) -> Any:
        shapes = {"k": (self.n_kv_heads, self.d_head), "v": (self.n_kv_heads, self.d_head)}
        return gptzoo.new_cache(batch_size, min(self.window - 1, max_length), shapes, device=device, dtype=dtype)


class KnowsItsRoom(Spelled):
    """Makes a Python number of the size of its cache."""

    name = "knows_its_room"

    def forward(self, x: Tensor, context: Any, state: Any = None) -> Any:
        y = super().forward(x, context, state)
        return y if state is None else y / len(state["position"][0]) * state["position"].shape[1]


class KeepsAnotherState(Spelled):
    """Writes something else into its state where a compiler is looking."""

    name = "keeps_another_state"

    def forward(self, x: Tensor, context: Any, state: Any = None) -> Any:
        y = super().forward(x, context, state)
        if state is not None and torch.compiler.is_compiling():
            state["v"].neg_()
        return y


class CountsTokens(Spelled):
    """Keeps the number of tokens beside them, as a Python integer."""

    name = "counts_tokens"

    def new_state(self, batch_size: int, max_length: int, *, device: Any, dtype: torch.dtype) -> Any:
        return {**super().new_state(batch_size, max_length, device=device, dtype=dtype), "n_tokens": 0}


class HeadsFirst(gptzoo.Attention):
    """A running mean whose state has the channels first."""

    name = "heads_first"
    supports = frozenset({"padding"})

    def __init__(self, config: Any, dims: Any):
        super().__init__(config, dims)
        self.out = nn.Linear(dims.d_model, dims.d_model)

    def new_state(self, batch_size: int, max_length: int, *, device: Any, dtype: torch.dtype) -> Any:
        return {"sum": torch.zeros(self.dims.d_model + 1, batch_size, device=device, dtype=dtype)}

    def forward(self, x: Tensor, context: Any, state: Any = None) -> Tensor:
        real = (context.positions >= 0).expand(x.shape[:2])[..., None].to(x.dtype)
        sums = (torch.cat([x, torch.ones_like(x[..., :1])], -1) * real).cumsum(1)
        if state is not None:
            sums = sums + state["sum"].T[:, None]
            state["sum"].copy_(sums[:, -1].T)
        return self.out(sums[..., :-1] / sums[..., -1:].clamp(min=1))


class ReplacesState(HeadsFirst):
    """The same with the batch first, and a new tensor for each call."""

    name = "replaces_state"

    def new_state(self, batch_size: int, max_length: int, *, device: Any, dtype: torch.dtype) -> Any:
        return {"sum": torch.zeros(batch_size, self.dims.d_model + 1, device=device, dtype=dtype)}

    def forward(self, x: Tensor, context: Any, state: Any = None) -> Tensor:
        turned = None if state is None else {"sum": state["sum"].T.clone()}
        y = super().forward(x, context, turned)
        if state is not None:
            state["sum"] = turned["sum"].T
        return y


class HidesState(Spelled):
    """Keeps its cache on the module, where who reorders the state cannot reach it."""

    name = "hides_state"

    def new_state(self, batch_size: int, max_length: int, *, device: Any, dtype: torch.dtype) -> Any:
        self.hidden = [super().new_state(batch_size, max_length, device=device, dtype=dtype)]
        return {"unused": torch.zeros(batch_size, 1, device=device)}

    def forward(self, x: Tensor, context: Any, state: Any = None) -> Any:
        return super().forward(x, context, None if state is None else self.hidden[0])


class CountsInRowZero(ReplacesState):
    """Takes the number of tokens from the first row, as if all had begun together."""

    name = "counts_in_row_zero"

    def forward(self, x: Tensor, context: Any, state: Any = None) -> Tensor:
        if state is None:
            return super().forward(x, context)
        sums = state["sum"][:, None] + torch.cat([x, torch.ones_like(x[..., :1])], -1).cumsum(1)
        state["sum"].copy_(sums[:, -1])
        return self.out(sums[..., :-1] / sums[:1, :, -1:])


class RollsBackARing(Spelled):
    """Says that it rolls back, although its ring has overwritten what an earlier token would see."""

    name = "rolls_back_a_ring"

    class Config(Spelled.Config):
        window: PositiveInt | None = 3

    def __init__(self, config: Any, dims: Any):
        super().__init__(config, dims)
        self.supports_rollback = True


class PadsPromptsAlone(Spelled):
    """Knows padding before a prompt; where it goes on, padding is written over the first token."""

    name = "pads_prompts_alone"

    def forward(self, x: Tensor, context: Any, state: Any = None) -> Any:
        if state is not None and not context.no_past:
            context = replace(context, positions=context.positions.clamp(min=0))
        return super().forward(x, context, state)


class ShowsScores(Spelled):
    """Captures scores and calls them attention."""

    name = "shows_scores"

    def shown(self, scores: Tensor, weights: Tensor) -> Tensor:
        return scores


class ShowsOneHead(Spelled):
    """Captures the mean over heads."""

    name = "shows_one_head"

    def shown(self, scores: Tensor, weights: Tensor) -> Tensor:
        return weights.mean(1)


class ShowsNoKeys(Spelled):
    """Captures weights without the positions of their keys."""

    name = "shows_no_keys"

    def forward(self, x: Tensor, context: Any, state: Any = None) -> Any:
        y = super().forward(x, context, state)
        return (
            y._replace(captures={"attention": y.captures["attention"]}) if isinstance(y, gptzoo.SublayerOutput) else y
        )


class TakesRopeForGranted(Spelled):
    """Reads the tables of rope by itself."""

    name = "takes_rope_for_granted"

    def attend(self, q: Tensor, k: Tensor, v: Tensor, context: Any, k_pos: Tensor) -> tuple[Tensor, Tensor | None]:
        cos, _ = context.tables[self.d_head]
        return super().attend(q + 0 * cos.sum().to(q.dtype), k, v, context, k_pos)


# ---------------------------------------------------------------------- ffn


class Mlp(gptzoo.FeedForward):
    """What the broken networks below share: up, silu, down."""

    def __init__(self, config: Any, dims: Any):
        super().__init__(config, dims)
        self.up = nn.Linear(dims.d_model, dims.d_model)
        self.down = nn.Linear(dims.d_model, dims.d_model)

    def forward(self, x: Tensor, context: Any, state: Any = None) -> Any:
        return self.down(F.silu(self.up(x)))


class CountsPadding(Mlp):
    """Balances its load over all tokens, padding too."""

    name = "counts_padding"

    def forward(self, x: Tensor, context: Any, state: Any = None) -> Any:
        hidden = F.silu(self.up(x))
        return gptzoo.SublayerOutput(self.down(hidden), losses={"balance": 0.01 * hidden.mean((0, 1)).square().sum()})


class ForgetsTheLast(Mlp):
    """Mixes in the token before, which it does not know at the start of a chunk."""

    name = "forgets_the_last"

    def forward(self, x: Tensor, context: Any, state: Any = None) -> Any:
        x = x * (context.positions >= 0)[..., None]
        before = F.pad(x, (0, 0, 1, 0))[:, :-1]
        if context.documents is not None:
            begins = context.documents != F.pad(context.documents, (1, 0), value=-1)[:, :-1]
            before = before.masked_fill(begins[..., None], 0.0)
        return super().forward(x + before, context)


class Unfilled(Mlp):
    """Has a scale that nobody fills."""

    name = "unfilled"

    def __init__(self, config: Any, dims: Any):
        super().__init__(config, dims)
        self.scale = nn.Parameter(torch.empty(dims.d_model))

    def forward(self, x: Tensor, context: Any, state: Any = None) -> Any:
        return super().forward(x, context) * self.scale


class PlainTensor(Mlp):
    """Keeps a table as a plain attribute."""

    name = "plain_tensor"

    def __init__(self, config: Any, dims: Any):
        super().__init__(config, dims)
        self.table = torch.ones(dims.d_model)


class SharesModule(Mlp):
    """Builds a dropout once and puts it in two places."""

    name = "shares_module"

    def __init__(self, config: Any, dims: Any):
        super().__init__(config, dims)
        self.drop_before = nn.Dropout(0.0)
        self.drop_after = self.drop_before


class SharesWeight(Mlp):
    """Ties two of its matrices."""

    name = "shares_weight"

    def __init__(self, config: Any, dims: Any):
        super().__init__(config, dims)
        self.down.weight = self.up.weight


class RealAtOnce(Mlp):
    """Computes a table in the constructor, on a device that it chooses."""

    name = "real_at_once"

    table: Tensor

    def __init__(self, config: Any, dims: Any):
        super().__init__(config, dims)
        self.register_buffer("table", torch.linspace(0, 1, dims.d_model, device="cpu"))

    def initialise(self, rng: Any) -> None:
        self.table.copy_(torch.linspace(0, 1, len(self.table)))


class WithScale(Mlp):
    """What the next ones share: a learnt scale of the output."""

    shape: tuple[int, ...] = (1,)

    def __init__(self, config: Any, dims: Any):
        super().__init__(config, dims)
        self.scale = nn.Parameter(torch.empty(self.shape))

    def initialise(self, rng: Any) -> None:
        nn.init.ones_(self.scale)

    def forward(self, x: Tensor, context: Any, state: Any = None) -> Any:
        return super().forward(x, context) * self.scale


class ScalarScale(WithScale):
    """Its scale has no dimension, which FSDP refuses."""

    name = "scalar_scale"
    shape = ()


class GlobalNoise(WithScale):
    """Draws its initial value from torch's global generator."""

    name = "global_noise"

    def initialise(self, rng: Any) -> None:
        self.scale.copy_(torch.randn(self.shape))


class SameInAllLayers(WithScale):
    """Seeds a generator of its own with what all layers share."""

    name = "same_in_all_layers"
    seeded: Any = None

    def initialise(self, rng: Any) -> None:
        if self.dims.layer == 0:
            type(self).seeded = rng("scale").initial_seed()
        nn.init.normal_(self.scale, generator=torch.Generator().manual_seed(self.seeded))


class DeadWeight(WithScale):
    """Has a scale and does not use it."""

    name = "dead_weight"

    def forward(self, x: Tensor, context: Any, state: Any = None) -> Any:
        return Mlp.forward(self, x, context)


class ForgetsASum(WithScale):
    """Its plan has it that each process computes all that the scale of the hidden units is for."""

    name = "forgets_a_sum"

    def tensor_parallel(self, n: int) -> Any:
        up, down = gptzoo.ColumnParallel(), gptzoo.RowParallel()
        return {"up": up, "scale": gptzoo.Replicated(), "down": down}

    def forward(self, x: Tensor, context: Any, state: Any = None) -> Any:
        return self.down(F.silu(self.up(x)) * self.scale)


class DeadOption(Mlp):
    """Has an option that it reads and does not use."""

    name = "dead_option"

    class Config(Mlp.Config):
        sharpness: PositiveFloat = 1.0
        residual_scale: float = 0.5

    def forward(self, x: Tensor, context: Any, state: Any = None) -> Any:
        return super().forward(x, context) * self.config.residual_scale


class LateBuffer(Mlp):
    """Makes a buffer when it first runs."""

    name = "late_buffer"

    def forward(self, x: Tensor, context: Any, state: Any = None) -> Any:
        if not hasattr(self, "window"):
            self.register_buffer("window", torch.ones(x.shape[-1]))
        return super().forward(x, context) * self.window


class UnsavedNoise(Mlp):
    """A random projection that it keeps out of the state dict."""

    name = "unsaved_noise"

    projection: Tensor

    def __init__(self, config: Any, dims: Any):
        super().__init__(config, dims)
        self.register_buffer("projection", torch.empty(dims.d_model, dims.d_model), persistent=False)

    def initialise(self, rng: Any) -> None:
        nn.init.normal_(self.projection, std=0.2, generator=rng("projection"))

    def forward(self, x: Tensor, context: Any, state: Any = None) -> Any:
        return super().forward(x @ self.projection, context)


class RollsDice(Mlp):
    """Drops itself in training by Python's own random numbers."""

    name = "rolls_dice"

    def forward(self, x: Tensor, context: Any, state: Any = None) -> Any:
        y = super().forward(x, context)
        return y * random.random() if self.training else y


class TrainsLouder(Mlp):
    """Scales in training as if something had been dropped."""

    name = "trains_louder"

    def forward(self, x: Tensor, context: Any, state: Any = None) -> Any:
        return super().forward(x, context) / (0.9 if self.training else 1.0)


class LearnsInForward(Mlp):
    """Moves a router's balance while it runs."""

    name = "learns_in_forward"

    balance: Tensor

    def __init__(self, config: Any, dims: Any):
        super().__init__(config, dims)
        self.register_buffer("balance", torch.empty(dims.d_model))

    def initialise(self, rng: Any) -> None:
        nn.init.zeros_(self.balance)

    def forward(self, x: Tensor, context: Any, state: Any = None) -> Any:
        y = super().forward(x, context) + self.balance
        if self.training:
            with torch.no_grad():
                self.balance -= 0.01 * y.detach().float().mean((0, 1)).sign()
        return y


class WritesItsInput(Mlp):
    """Scales what it is given in place, to save memory."""

    name = "writes_its_input"

    def forward(self, x: Tensor, context: Any, state: Any = None) -> Any:
        return super().forward(x.mul_(1.5) if not torch.is_grad_enabled() else x * 1.5, context)


class CountsCalls(Mlp):
    """Turns its sign at every second call: so the second run of a checkpoint is another."""

    name = "counts_calls"

    def __init__(self, config: Any, dims: Any):
        super().__init__(config, dims)
        self.n_calls = 0

    def forward(self, x: Tensor, context: Any, state: Any = None) -> Any:
        self.n_calls += 1
        return super().forward(x * (-1) ** self.n_calls, context)


class AsksForANumber(Mlp):
    """Looks at a value, which breaks the graph."""

    name = "asks_for_a_number"

    def forward(self, x: Tensor, context: Any, state: Any = None) -> Any:
        y = super().forward(x, context)
        return y.clamp(-1e3, 1e3) if y.abs().max().item() > 1e3 else y


class CompilesByLayer(Mlp):
    """Uses the number of its layer as a Python number."""

    name = "compiles_by_layer"

    def forward(self, x: Tensor, context: Any, state: Any = None) -> Any:
        return super().forward(x, context) / (1 + self.dims.layer)


class CountsRows(Mlp):
    """Makes a Python number of the size of the batch."""

    name = "counts_rows"

    def forward(self, x: Tensor, context: Any, state: Any = None) -> Any:
        return super().forward(x, context) / len(x) * x.shape[0]


class ShortCut(Mlp):
    """Does less where it believes that a compiler is looking."""

    name = "short_cut"

    def forward(self, x: Tensor, context: Any, state: Any = None) -> Any:
        return x if torch.compiler.is_compiling() else super().forward(x, context)


class LazyOnMeta(Mlp):
    """Takes a short cut where there are no values, because its kernel cannot run there."""

    name = "lazy_on_meta"

    def forward(self, x: Tensor, context: Any, state: Any = None) -> Any:
        return x * self.up.weight.sum() * self.down.weight.sum() if x.is_meta else super().forward(x, context)


class WorksMoreWhenDeep(Mlp):
    """Runs as often as its layer is deep, so few layers do not tell what many cost."""

    name = "works_more_when_deep"

    def forward(self, x: Tensor, context: Any, state: Any = None) -> Any:
        for _ in range(1 + self.dims.layer**2):
            x = super().forward(x, context)
        return x


# ---------------------------------------------------------------------- activation, norm, norm_layer, positional


class WrongSlope(gptzoo.Activation):
    """x^2 with a backward pass that forgot the 2."""

    name = "wrong_slope"

    class Square(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Tensor) -> Tensor:
            ctx.save_for_backward(x)
            return x * x

        @staticmethod
        def backward(ctx: Any, *gradients: Tensor) -> Tensor:
            (x,) = ctx.saved_tensors
            return gradients[0] * x

    def forward(self, x: Tensor) -> Tensor:
        return self.Square.apply(x)


class AlwaysSingle(gptzoo.NormLayer):
    """Normalises in float32, which is right, and stays there, which is not."""

    name = "always_single"

    def forward(self, x: Tensor) -> Tensor:
        x = x.float()
        return x * (x.square().mean(-1, keepdim=True) + self.config.eps).rsqrt() * self.weight.float()


class BatchNorm(gptzoo.NormLayer):
    """Takes its mean over the batch."""

    name = "batchnorm"

    def forward(self, x: Tensor) -> Tensor:
        x = x - x.mean(tuple(range(x.ndim - 1)), keepdim=True)
        return x * (x.square().mean(-1, keepdim=True) + self.config.eps).rsqrt() * self.weight


class AddsInPlace(gptzoo.Norm):
    """Adds to the residual stream in place."""

    name = "adds_in_place"

    def forward(self, x: Tensor, sublayers: Mapping[str, Any]) -> Tensor:
        for name, sublayer in sublayers.items():
            x += sublayer(self.layers[name](x))
        return x


class NeverAlone(gptzoo.Positional):
    """Embeds by the mean position of the whole row."""

    name = "never_alone"

    def embed(self, x: Tensor, positions: Tensor) -> Tensor:
        return x * (1 + positions.to(x.dtype).mean(1)[:, None, None])


# ---------------------------------------------------------------------- beside the model


class LowerCase(gptzoo.Tokenizer):
    """Reads all letters as small ones."""

    name = "lower_case"
    vocab_size = 256
    eot = None

    def encode(self, text: str) -> list[int]:
        return list(text.lower().encode())

    def decode_bytes(self, ids: Any) -> bytes:
        return bytes(self.check_ids(ids))


class OneIdTooMany(LowerCase):
    """Leaves its end-of-text id out of the vocabulary."""

    name = "one_id_too_many"
    eot = 256


class KeepsASet(LowerCase):
    """Has a state that is no JSON."""

    name = "keeps_a_set"

    @classmethod
    def fit(cls, config: Any, texts: Any) -> Any:
        return {character for text in texts for character in text}


class DividesByZero(gptzoo.Schedule):
    """Falls linearly over all but the last step, of which a run of one step has none."""

    name = "divides_by_zero"

    def factor(self, context: int) -> float:
        return 1 - context / (self.n_steps - 1) if self.n_steps != 1 else float("nan")


class CountsSteps(gptzoo.Schedule):
    """Falls by a percent whenever it is asked."""

    name = "counts_steps"

    def __init__(self, config: Any, n_steps: int):
        super().__init__(config, n_steps)
        self.current = 1.0

    def after_warmup(self, progress: float) -> float:
        self.current *= 0.99
        return self.current


class WarmsUpFromZero(gptzoo.Schedule):
    """Loses its first step."""

    name = "warms_up_from_zero"

    def factor(self, context: int) -> float:
        return min(1.0, context / max(1, self.config.warmup_steps))


class MatricesOnly(gptzoo.Optimizer):
    """Leaves vectors out of its groups."""

    name = "matrices_only"

    class Config(gptzoo.Optimizer.Config):
        lr: PositiveFloat = 1e-2

    def create(self, parameters: Mapping[str, nn.Parameter]) -> torch.optim.Optimizer:
        return torch.optim.SGD([p for p in parameters.values() if p.ndim > 1], lr=self.config.lr)


class DecaysByItself(MatricesOnly):
    """Decays weights by a rate that no schedule reaches."""

    name = "decays_by_itself"

    class Sgd(torch.optim.SGD):
        def context(self, closure: Any = None) -> Any:
            with torch.no_grad():
                for group in self.param_groups:
                    for parameter in group["params"]:
                        parameter.mul_(1 - 1e-4)
            return super().context(closure)

    def create(self, parameters: Mapping[str, nn.Parameter]) -> torch.optim.Optimizer:
        return self.Sgd(parameters.values(), lr=self.config.lr)


class ForgetsItsMomentum(MatricesOnly):
    """Keeps its momentum where no checkpoint looks."""

    name = "forgets_its_momentum"

    class Sgd(torch.optim.SGD):
        hidden: Any = None

        def context(self, closure: Any = None) -> Any:
            self.hidden = self.hidden or {}
            for group in self.param_groups:
                for parameter in group["params"]:
                    parameter.grad += 0.5 * self.hidden.get(parameter, 0)
                    self.hidden[parameter] = parameter.grad.clone()
            return super().context(closure)

    def create(self, parameters: Mapping[str, nn.Parameter]) -> torch.optim.Optimizer:
        return self.Sgd(parameters.values(), lr=self.config.lr)


class DeadDecay(MatricesOnly):
    """Has a weight decay that it does not hand on."""

    name = "dead_decay"

    class Config(MatricesOnly.Config):
        weight_decay: float = 0.1

    def create(self, parameters: Mapping[str, nn.Parameter]) -> torch.optim.Optimizer:
        return torch.optim.SGD(parameters.values(), lr=self.config.lr)


class Strict(gptzoo.LogitsProcessor):
    """Keeps what is above a bound, which may be nothing."""

    name = "strict"

    def __call__(self, logits: Tensor, rows: Any) -> Tensor:
        return logits.masked_fill(logits < 2, float("-inf"))


class BatchTemperature(gptzoo.LogitsProcessor):
    """Scales by the largest logit of the batch."""

    name = "batch_temperature"

    def __call__(self, logits: Tensor, rows: Any) -> Tensor:
        return logits / logits.amax().clamp(min=1)


class InPlacePenalty(gptzoo.LogitsProcessor):
    """Writes into the logits of the last token."""

    name = "in_place_penalty"

    def __call__(self, logits: Tensor, rows: Any) -> Tensor:
        for index, row in enumerate(rows):
            logits[index, row.tokens[-1]] -= 1
        return logits


class KeepsHistory(gptzoo.LogitsProcessor):
    """Sums up the logits of all its calls."""

    name = "keeps_history"

    def __init__(self, config: Any, tokenizer: Any = None):
        super().__init__(config, tokenizer)
        self.n_calls = 0

    def __call__(self, logits: Tensor, rows: Any) -> Tensor:
        self.n_calls += 1
        return logits / self.n_calls


class Shuffled(gptzoo.Corpus):
    """Shuffles its documents anew each time."""

    name = "shuffled"

    class Config(gptzoo.Corpus.Config):
        n_documents: PositiveInt = 20

    def documents(self, split: Any) -> Iterator[str]:
        yield from random.sample([f"{split} {index}" for index in range(self.config.n_documents)], k=10)

    def fingerprint(self) -> str:
        return hashlib.sha256(str(self.config.n_documents).encode()).hexdigest()


class SameFingerprint(Shuffled):
    """Tells its documents by its name alone."""

    name = "same_fingerprint"

    def documents(self, split: Any) -> Iterator[str]:
        yield from (f"{split} {index}" for index in range(self.config.n_documents))

    def fingerprint(self) -> str:
        return self.name


class _Tracker(gptzoo.Tracker):
    """Remembers nothing of earlier runs."""

    def start(self, run: Any) -> int:
        return -1

    def log(self, row: Any) -> None:
        return


class NumbersOnly(_Tracker):
    """Takes it that every metric is a number."""

    name = "numbers_only"

    def log(self, row: Any) -> None:
        self.total = sum(value for value in row.values() if value is not None)


class HoldsTheFuture(_Tracker):
    """Says that it holds whatever a run may give."""

    name = "holds_the_future"

    def start(self, run: Any) -> int:
        return -1 if run.kept < 0 else run.n_steps


class KnowsOneEnd(_Tracker):
    """Has not thought of runs that fail."""

    name = "knows_one_end"

    def finish(self, status: str) -> None:
        self.mark = {"done": "+", "interrupted": "-", "paused": "="}[status]


class SamplesRows(_Tracker):
    """Draws which rows to keep."""

    name = "samples_rows"

    def log(self, row: Any) -> None:
        self.keep = torch.rand(()) < 0.5


class _Processes(gptzoo.Executor):
    """Jobs as processes of this machine, two at a time. Those of the kit run without gptzoo, to be quick."""

    def __init__(self, config: Any):
        super().__init__(config)
        self.processes: list[subprocess.Popen[bytes]] = []

    def __exit__(self, kind: Any, error: Any, traceback: Any) -> None:
        for process in self.processes:
            process.terminate()
        for process in self.processes:
            process.wait()

    @property
    def free_slots(self) -> int:
        return 2 - sum(process.poll() is None for process in self.processes)

    def start(self, job: gptzoo.Job) -> Any:
        arguments = job.arguments[2:] if job.arguments[0] == "plugins" else ("-m", "gptzoo", *job.arguments)
        with open(job.log, "ab") as log:
            self.processes.append(subprocess.Popen([sys.executable, *arguments], stdout=log, stderr=log))
        return self.processes[-1]

    def poll(self, handle: Any) -> int | None:
        code: int | None = handle.poll()
        return code

    def stop(self, handle: Any, *, kill: bool = False) -> None:
        handle.send_signal(signal.SIGKILL if kill else signal.SIGTERM)

    def wait(self, handles: Any, seconds: float) -> None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            handles[0].wait(seconds)


class LosesErrors(_Processes):
    """Keeps what a job prints, and not what it complains of."""

    name = "loses_errors"

    def start(self, job: gptzoo.Job) -> Any:
        with open(job.log, "wb") as log:
            self.processes.append(
                subprocess.Popen([sys.executable, job.arguments[2]], stdout=log, stderr=subprocess.DEVNULL)
            )
        return self.processes[-1]


class TriesAgain(_Processes):
    """Is of help where nobody asked: starts what failed once more."""

    name = "tries_again"

    def start(self, job: gptzoo.Job) -> Any:
        first = super().start(job)
        return super().start(job) if first.wait() else first


class ShellCodes(_Processes):
    """Tells of a signal as a shell does."""

    name = "shell_codes"

    def poll(self, handle: Any) -> int | None:
        code = super().poll(handle)
        return code if code is None else code % 256 if code >= 0 else 128 - code


class KillsAtOnce(_Processes):
    """Knows one way to end a job."""

    name = "kills_at_once"

    def stop(self, handle: Any, *, kill: bool = False) -> None:
        handle.kill()


class LeavesThemRunning(_Processes):
    """Takes it that whoever started a job ends it."""

    name = "leaves_them_running"

    def __exit__(self, kind: Any, error: Any, traceback: Any) -> None:
        return


class InHalfPrecision(_Processes):
    """Has training save memory."""

    name = "in_half_precision"

    def start(self, job: gptzoo.Job) -> Any:
        return super().start(gptzoo.Job((*job.arguments, "--set", "precision=bf16"), job.log))
