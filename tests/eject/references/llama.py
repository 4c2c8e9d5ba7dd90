"""A small Llama (24M) in PyTorch, in one file.

model = Llama()                       # initial weights, to train from scratch
model = load("model.safetensors")     # trained weights
logits = model(tokens)                # (B, T) -> (B, T, V)
loss = model(tokens[:, :-1], tokens[:, 1:])  # the model does not shift targets
tokens = model.generate(tokens, 100, temperature=0.8, top_k=50)

Touvron et al. 2023, LLaMA, arXiv:2302.13971; Ainslie et al. 2023, GQA, arXiv:2305.13245.
"""

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn

VOCAB_SIZE = 32000
N_LAYERS = 6
N_HEADS = 6
N_KV_HEADS = 2
D_MODEL = 288
D_HEAD = D_MODEL // N_HEADS
D_FF = 768
THETA = 10000.0
EPS = 1e-5
INIT_STD = 0.02
RESIDUAL_STD = INIT_STD / (2 * N_LAYERS) ** 0.5


class KVCache:
    """Keys and values (B, G, S, D) of the tokens so far, for one layer."""

    def __init__(self, batch_size: int, max_length: int, like: Tensor):
        shape = (batch_size, N_KV_HEADS, max_length, D_HEAD)
        self.keys = like.new_zeros(shape)
        self.values = like.new_zeros(shape)

    def extend(self, k: Tensor, v: Tensor, start: int) -> tuple[Tensor, Tensor]:
        """Store keys and values of the tokens from `start` on, and return all so far."""
        end = start + k.shape[2]
        self.keys[:, :, start:end] = k
        self.values[:, :, start:end] = v
        return self.keys[:, :, :end], self.values[:, :, :end]


def rotary_tables(positions: Tensor) -> tuple[Tensor, Tensor]:
    """Return the cosines and sines (T, D/2) of rotary position embedding (arXiv:2104.09864)."""
    exponents = torch.arange(0, D_HEAD, 2, device=positions.device) / D_HEAD
    angles = positions[:, None] * THETA**-exponents
    return angles.cos(), angles.sin()


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate the pairs (i, i + D/2) of the channels of each head, (B, H, T, D)."""
    a, b = x.float().chunk(2, dim=-1)
    return torch.cat([a * cos - b * sin, b * cos + a * sin], dim=-1).type_as(x)


class Attention(nn.Module):
    """Causal attention in which groups of query heads share a key and value head."""

    def __init__(self):
        super().__init__()
        self.q = nn.Linear(D_MODEL, N_HEADS * D_HEAD, bias=False)
        self.k = nn.Linear(D_MODEL, N_KV_HEADS * D_HEAD, bias=False)
        self.v = nn.Linear(D_MODEL, N_KV_HEADS * D_HEAD, bias=False)
        self.out = nn.Linear(N_HEADS * D_HEAD, D_MODEL, bias=False)

    def forward(self, x: Tensor, tables: tuple[Tensor, Tensor], cache: KVCache | None, start: int) -> Tensor:
        B, T, _ = x.shape
        q = rotate(self.q(x).view(B, T, N_HEADS, D_HEAD).transpose(1, 2), *tables)
        k = rotate(self.k(x).view(B, T, N_KV_HEADS, D_HEAD).transpose(1, 2), *tables)
        v = self.v(x).view(B, T, N_KV_HEADS, D_HEAD).transpose(1, 2)
        if cache is not None:
            k, v = cache.extend(k, v, start)
        mask = None
        if start > 0:  # query i may attend to the keys up to start + i
            mask = torch.ones(T, start + T, dtype=torch.bool, device=x.device).tril(start)
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=mask is None, enable_gqa=True)
        return self.out(y.transpose(1, 2).reshape(B, T, -1))


class SwiGLU(nn.Module):
    """down(silu(gate(x)) * up(x)). Shazeer 2020, arXiv:2002.05202."""

    def __init__(self):
        super().__init__()
        self.gate = nn.Linear(D_MODEL, D_FF, bias=False)
        self.up = nn.Linear(D_MODEL, D_FF, bias=False)
        self.down = nn.Linear(D_FF, D_MODEL, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.down(F.silu(self.gate(x)) * self.up(x))


class Block(nn.Module):
    """Attention and SwiGLU, each after an RMS norm, added to the residual stream."""

    def __init__(self):
        super().__init__()
        self.attention_norm = nn.RMSNorm(D_MODEL, eps=EPS)
        self.attention = Attention()
        self.ffn_norm = nn.RMSNorm(D_MODEL, eps=EPS)
        self.ffn = SwiGLU()

    def forward(self, x: Tensor, tables: tuple[Tensor, Tensor], cache: KVCache | None, start: int) -> Tensor:
        x = x + self.attention(self.attention_norm(x), tables, cache, start)
        return x + self.ffn(self.ffn_norm(x))


class Llama(nn.Module):
    """A decoder-only transformer with rotary positions."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(VOCAB_SIZE, D_MODEL)
        self.blocks = nn.ModuleList(Block() for _ in range(N_LAYERS))
        self.norm = nn.RMSNorm(D_MODEL, eps=EPS)
        self.head = nn.Linear(D_MODEL, VOCAB_SIZE, bias=False)
        self.init_weights()

    def forward(
        self,
        tokens: Tensor,
        targets: Tensor | None = None,
        *,
        caches: list[KVCache] | None = None,
        start: int = 0,
    ) -> Tensor:
        """Return logits (B, T, V) for tokens (B, T), or the mean loss if there are targets.

        With `caches`, the tokens follow `start` earlier ones, whose keys and values are cached.
        """
        positions = torch.arange(start, start + tokens.shape[1], device=tokens.device)
        tables = rotary_tables(positions)
        x = self.embed(tokens)
        for layer, block in enumerate(self.blocks):
            x = block(x, tables, None if caches is None else caches[layer], start)
        logits = self.head(self.norm(x))
        if targets is None:
            return logits
        return F.cross_entropy(logits.flatten(0, 1).float(), targets.flatten())

    @torch.inference_mode()
    def generate(
        self,
        tokens: Tensor,
        max_new_tokens: int,
        *,
        temperature: float = 1.0,
        top_k: int | None = None,
    ) -> Tensor:
        """Return tokens (B, T) with new ones after them. Temperature 0 takes the likeliest."""
        max_length = tokens.shape[1] + max_new_tokens
        caches = [KVCache(len(tokens), max_length, self.embed.weight) for _ in self.blocks]
        new = tokens
        start = 0
        for _ in range(max_new_tokens):
            logits = self(new, caches=caches, start=start)[:, -1]
            start = tokens.shape[1]
            if top_k is not None:
                smallest = logits.topk(min(top_k, VOCAB_SIZE)).values[:, -1:]
                logits = logits.masked_fill(logits < smallest, float("-inf"))
            if temperature == 0:
                new = logits.argmax(-1, keepdim=True)
            else:
                new = (logits / temperature).softmax(-1).multinomial(1)
            tokens = torch.cat([tokens, new], dim=1)
        return tokens

    @torch.no_grad()
    def init_weights(self) -> None:
        """Draw initial weights; layers that write to the residual stream get smaller ones."""
        for name, module in self.named_modules():
            if isinstance(module, nn.Linear | nn.Embedding):
                writes_residual = name.endswith(("attention.out", "ffn.down"))
                nn.init.normal_(module.weight, std=RESIDUAL_STD if writes_residual else INIT_STD)


def load(path: str) -> Llama:
    """Return the model with the weights of a safetensors file, in eval mode."""
    model = Llama()
    model.load_state_dict(load_file(path))
    return model.eval()
