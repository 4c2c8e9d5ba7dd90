"""One training step of each library, on the same shape: forward, backward, clipping and fused AdamW.

    python -m benchmarks.peers PEER SETTING      a worker of `benchmarks.harness.worker`; SETTING is JSON

Every peer has pre-norm blocks, learned positions, exact GELU and tied embeddings, and decays matrices only. Dropout
acts on the embeddings, the attention weights and both outputs of a block.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks import reference
from benchmarks.harness.worker import answer

LR, BETAS, WEIGHT_DECAY, CLIP_NORM = 1e-4, (0.9, 0.95), 0.1, 1.0


@dataclass(frozen=True)
class Setting:
    """The shape and the arithmetic of a step."""

    vocab_size: int
    context_length: int
    d_model: int
    n_layers: int
    n_heads: int
    batch_size: int
    dropout: float
    precision: str  # fp32 or bf16 (autocast)
    compile: bool
    device: str = "cpu"

    @property
    def dtype(self) -> torch.dtype | None:
        return torch.bfloat16 if self.precision == "bf16" else None

    def batch(self) -> tuple[Tensor, Tensor]:
        """Return tokens and targets (B, T), always the same."""
        shape = (self.batch_size, self.context_length + 1)
        text = torch.randint(self.vocab_size, shape, generator=torch.Generator().manual_seed(0)).to(self.device)
        return text[:, :-1].contiguous(), text[:, 1:].contiguous()

    def wait(self) -> None:
        if torch.device(self.device).type == "cuda":
            torch.cuda.synchronize()


class Peer:
    """A model with a training step. `model(tokens, targets)` returns the loss."""

    def __init__(self, model: nn.Module, setting: Setting):
        self.model = model.to(setting.device).train()
        self.setting = setting
        self.tokens, self.targets = setting.batch()
        self.run: Callable[[], object] | None = None

    def step(self) -> None:
        """Train once."""
        if self.run is None:
            self.run = self.prepare()
        self.run()

    def prepare(self) -> Callable[[], object]:
        """Return the step, by the loop of the reference."""
        optimizer = reference.make_optimizer(self.model, LR, BETAS, WEIGHT_DECAY)
        module: Any = torch.compile(self.model) if self.setting.compile else self.model
        arguments = module, optimizer, self.tokens, self.targets
        return lambda: reference.train_step(*arguments, dtype=self.setting.dtype, clip_norm=CLIP_NORM)

    def loss(self) -> Tensor:
        """Return the loss of the batch in float32, without dropout."""
        self.model.eval()
        loss: Tensor = self.model(self.tokens, self.targets)
        self.model.train()
        return loss

    def facts(self) -> dict[str, float]:
        """Return the number of parameters, and the loss before the first step."""
        return {"parameters": sum(p.numel() for p in self.model.parameters()), "loss": self.loss().item()}


class _Loss(nn.Module):
    """A model whose forward pass returns the loss."""

    def __init__(self, model: nn.Module, loss: Callable[[Any, Tensor, Tensor], Tensor]):
        super().__init__()
        self.model, self.of = model, loss

    def forward(self, tokens: Tensor, targets: Tensor) -> Tensor:
        return self.of(self.model, tokens, targets)


def _cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    return nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten())


class GptzooPeer(Peer):
    """gptzoo, by the code that `gptzoo train` runs."""

    def __init__(self, setting: Setting):
        import gptzoo

        widths = {name: getattr(setting, name) for name in ("context_length", "d_model", "n_layers", "n_heads")}
        spec = {**widths, "dropout": setting.dropout}
        self.model_spec = spec
        model = gptzoo.build({**spec, "vocab_size": setting.vocab_size})
        super().__init__(_Loss(model, lambda model, tokens, targets: model(tokens, targets)[1]), setting)
        self.gpt: Any = model

    def prepare(self) -> Callable[[], object]:
        import gptzoo
        from gptzoo.training.step.block_options import prepare_blocks
        from gptzoo.training.step.micro_batch import split_into_micro_batches
        from gptzoo.training.step.train_step import TrainStep

        setting = self.setting
        run = gptzoo.load_run_spec(
            {
                "model": self.model_spec,
                "steps": 1,
                "batch_size": setting.batch_size,
                "clip_norm": CLIP_NORM,
                "optimizer": {"type": "adamw", "lr": LR, "betas": BETAS, "weight_decay": WEIGHT_DECAY},
            }
        )
        prepare_blocks(self.gpt, compile=setting.compile, recompute=False)
        device = torch.device(setting.device)
        step = TrainStep(run, self.gpt, dict(self.gpt.named_parameters()), device=device, precision=setting.precision)
        batch = {"tokens": self.tokens.cpu().numpy(), "targets": self.targets.cpu().numpy()}
        micro_batches = split_into_micro_batches(batch, setting.batch_size, pin_memory=device.type == "cuda")
        steps = iter(range(2**62))

        def train() -> None:
            number = next(steps)
            gradient = step.accumulate_gradients(micro_batches, number)
            step.clip_gradients(gradient.total_norm)
            step.set_learning_rates(1.0)
            step.optimizer_step(number)
            step.zero_grad()

        return train


def make_reference(setting: Setting) -> Peer:
    """Return our one-file GPT-2."""
    torch.manual_seed(0)
    widths = ("vocab_size", "context_length", "d_model", "n_layers", "n_heads", "dropout")
    return Peer(reference.GPT(reference.Config(**{name: getattr(setting, name) for name in widths})), setting)


def make_transformers(setting: Setting) -> Peer:
    """Return the GPT-2 of `transformers`."""
    from transformers import GPT2Config, GPT2LMHeadModel

    dropouts = dict.fromkeys(("resid_pdrop", "embd_pdrop", "attn_pdrop"), setting.dropout)
    config = GPT2Config(
        vocab_size=setting.vocab_size,
        n_positions=setting.context_length,
        n_embd=setting.d_model,
        n_layer=setting.n_layers,
        n_head=setting.n_heads,
        activation_function="gelu",
        bos_token_id=0,
        eos_token_id=0,
        use_cache=False,
        **dropouts,
    )
    model = GPT2LMHeadModel(config)
    return Peer(_Loss(model, lambda m, tokens, targets: _cross_entropy(m(tokens).logits, targets)), setting)


def make_x_transformers(setting: Setting) -> Peer:
    """Return a decoder of `x-transformers`."""
    from x_transformers import Decoder, TransformerWrapper

    model = TransformerWrapper(
        num_tokens=setting.vocab_size,
        max_seq_len=setting.context_length,
        tie_embedding=True,
        emb_dropout=setting.dropout,
        attn_layers=Decoder(
            dim=setting.d_model,
            depth=setting.n_layers,
            heads=setting.n_heads,
            attn_dim_head=setting.d_model // setting.n_heads,
            attn_flash=True,
            attn_dropout=setting.dropout,
            ff_dropout=setting.dropout,
            layer_dropout=0.0,
        ),
    )
    return Peer(_Loss(model, lambda m, tokens, targets: _cross_entropy(m(tokens), targets)), setting)


def make_litgpt(setting: Setting) -> Peer:
    """Return a GPT of `litgpt`. It has no dropout and no tied embeddings, so it is an approximation."""
    from litgpt import GPT, Config

    config = Config(
        vocab_size=setting.vocab_size,
        padded_vocab_size=setting.vocab_size,
        block_size=setting.context_length,
        n_embd=setting.d_model,
        n_layer=setting.n_layers,
        n_head=setting.n_heads,
        rotary_percentage=1.0,
        norm_class_name="LayerNorm",
        mlp_class_name="GptNeoxMLP",
        parallel_residual=False,
    )
    return Peer(_Loss(GPT(config), lambda m, tokens, targets: _cross_entropy(m(tokens), targets)), setting)


PEERS: dict[str, tuple[str, Callable[[Setting], Peer]]] = {
    "gptzoo": ("gptzoo", GptzooPeer),
    "reference": ("torch", make_reference),
    "transformers": ("transformers", make_transformers),
    "x-transformers": ("x_transformers", make_x_transformers),
    "litgpt": ("litgpt", make_litgpt),
}
"""The module that a peer needs, and its constructor."""


def main() -> None:
    peer = PEERS[sys.argv[1]][1](Setting(**json.loads(sys.argv[2])))

    def timed_step() -> float:
        peer.setting.wait()
        started = time.perf_counter()
        peer.step()
        peer.setting.wait()
        return time.perf_counter() - started

    answer({"facts": peer.facts, "step": timed_step})


def worker_arguments(name: str, setting: Setting) -> list[str]:
    """Return the arguments of a worker process."""
    return [name, json.dumps(asdict(setting))]


if __name__ == "__main__":
    main()
