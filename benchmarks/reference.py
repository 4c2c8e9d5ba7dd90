"""GPT-2 in one file, as a good engineer writes it with torch: the reference for the speed of a training step.

    python -m benchmarks.reference --text tinyshakespeare.txt --out FOLDER [--steps 2000]

As a command, it trains on the characters of a text, evaluates on the last tenth of it, and writes a checkpoint.
"""

from __future__ import annotations

import argparse
import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@dataclass(frozen=True)
class Config:
    vocab_size: int = 50257
    context_length: int = 1024
    d_model: int = 768
    n_layers: int = 12
    n_heads: int = 12
    dropout: float = 0.0
    bias: bool = True


class LayerNorm(nn.Module):
    def __init__(self, width: int, bias: bool):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.bias = nn.Parameter(torch.zeros(width)) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        return F.layer_norm(x, self.weight.shape, self.weight, self.bias, 1e-5)


class Block(nn.Module):
    def __init__(self, config: Config):
        super().__init__()
        width, bias = config.d_model, config.bias
        self.n_heads, self.dropout = config.n_heads, config.dropout
        self.norm_1, self.norm_2 = LayerNorm(width, bias), LayerNorm(width, bias)
        self.qkv = nn.Linear(width, 3 * width, bias=bias)
        self.out = nn.Linear(width, width, bias=bias)
        self.up = nn.Linear(width, 4 * width, bias=bias)
        self.down = nn.Linear(4 * width, width, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        x = x + F.dropout(self.attend(self.norm_1(x)), self.dropout, self.training)
        hidden = F.gelu(self.up(self.norm_2(x)))
        return x + F.dropout(self.down(hidden), self.dropout, self.training)

    def attend(self, x: Tensor) -> Tensor:
        batch, length, width = x.shape
        q, k, v = self.qkv(x).view(batch, length, 3, self.n_heads, width // self.n_heads).permute(2, 0, 3, 1, 4)
        dropout = self.dropout if self.training else 0.0
        y = F.scaled_dot_product_attention(q, k, v, dropout_p=dropout, is_causal=True)
        return self.out(y.transpose(1, 2).reshape(batch, length, width))


class GPT(nn.Module):
    def __init__(self, config: Config):
        super().__init__()
        self.config = config
        self.tokens = nn.Embedding(config.vocab_size, config.d_model)
        self.positions = nn.Embedding(config.context_length, config.d_model)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.n_layers))
        self.norm = LayerNorm(config.d_model, config.bias)
        for name, parameter in self.named_parameters():
            if parameter.ndim == 2:
                writes_residual = name.endswith(("out.weight", "down.weight"))
                nn.init.normal_(parameter, std=0.02 / math.sqrt(2 * config.n_layers) if writes_residual else 0.02)
            elif name.endswith("bias"):
                nn.init.zeros_(parameter)

    def forward(self, tokens: Tensor, targets: Tensor) -> Tensor:
        """Return the mean cross-entropy of the targets (B, T)."""
        x = self.tokens(tokens) + self.positions.weight[: tokens.shape[1]]
        x = F.dropout(x, self.config.dropout, self.training)
        for block in self.blocks:
            x = block(x)
        logits = F.linear(self.norm(x), self.tokens.weight)
        return F.cross_entropy(logits.flatten(0, 1), targets.flatten())


def make_optimizer(model: nn.Module, lr: float, betas: tuple[float, float], weight_decay: float) -> torch.optim.AdamW:
    """Return fused AdamW that decays matrices only."""
    parameters = list(model.parameters())
    groups = [
        {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": weight_decay},
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=lr, betas=betas, fused=True)


def train_step(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    tokens: Tensor,
    targets: Tensor,
    *,
    dtype: torch.dtype | None = None,
    clip_norm: float = 1.0,
) -> Tensor:
    """Update the weights once and return the loss. `dtype` is that of autocast, None for no autocast."""
    with torch.autocast(tokens.device.type, dtype, enabled=dtype is not None):
        loss: Tensor = model(tokens, targets)
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), clip_norm)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return loss.detach()


def learning_rate(step: int, n_steps: int, peak: float, warmup: int) -> float:
    """Return the rate of a step (from 0): linear warmup, then a cosine to a tenth of the peak."""
    if step < warmup:
        return peak * (step + 1) / (warmup + 1)
    progress = (step - warmup) / max(1, n_steps - warmup)
    return peak * (0.1 + 0.45 * (1 + math.cos(math.pi * progress)))


@torch.no_grad()
def evaluate(model: nn.Module, text: Tensor, length: int, rows: int) -> float:
    """Return the mean loss over all whole windows of a text."""
    model.eval()
    n_windows = (len(text) - 1) // length
    tokens = text[: n_windows * length].view(-1, length)
    targets = text[1 : n_windows * length + 1].view(-1, length)
    losses = [model(t, u).item() * len(t) for t, u in zip(tokens.split(rows), targets.split(rows), strict=True)]
    model.train()
    return sum(losses) / n_windows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--text", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args()
    text = arguments.text.read_text(encoding="utf-8")
    characters = sorted(set(text))
    ids = {character: index for index, character in enumerate(characters)}
    encoded = torch.tensor([ids[character] for character in text], device=arguments.device)
    n_train = int(0.9 * len(encoded))
    torch.manual_seed(1)
    config = Config(len(characters), context_length=64, d_model=128, n_layers=4, n_heads=4, bias=False)
    model = GPT(config).to(arguments.device)
    optimizer = make_optimizer(model, 1e-3, (0.9, 0.99), 0.1)
    arguments.out.mkdir(parents=True)
    for step in range(arguments.steps + 1):
        if step % 250 == 0 or step == arguments.steps:
            loss = evaluate(model, encoded[n_train:], config.context_length, 256)
            print(json.dumps({"step": step, "val/loss": loss}), flush=True)
            state = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "config": asdict(config)}
            torch.save(state, arguments.out / "checkpoint.pt")
        if step == arguments.steps:
            break
        starts = torch.randint(n_train - config.context_length - 1, (12,)).tolist()
        rows = torch.stack([encoded[start : start + config.context_length + 1] for start in starts])
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, arguments.steps, 1e-3, 100)
        train_step(model, optimizer, rows[:, :-1], rows[:, 1:])


if __name__ == "__main__":
    main()
