"""GPT-2 (124M) in PyTorch, in one file.

model = GPT2()                        # initial weights, to train from scratch
model = load("model.safetensors")     # trained weights
logits = model(tokens)                # (B, T) -> (B, T, V)
loss = model(tokens[:, :-1], tokens[:, 1:])  # the model does not shift targets
tokens = model.generate(tokens, 100, temperature=0.8, top_k=50)

Radford et al. 2019, Language Models are Unsupervised Multitask Learners.
"""

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn

VOCAB_SIZE = 50257
CONTEXT_LENGTH = 1024
N_LAYERS = 12
N_HEADS = 12
D_MODEL = 768
D_HEAD = D_MODEL // N_HEADS
D_FF = 4 * D_MODEL
INIT_STD = 0.02
RESIDUAL_STD = INIT_STD / (2 * N_LAYERS) ** 0.5


class KVCache:
    """Keys and values (B, H, S, D) of the tokens so far, for one layer."""

    def __init__(self, batch_size: int, max_length: int, like: Tensor):
        shape = (batch_size, N_HEADS, max_length, D_HEAD)
        self.keys = like.new_zeros(shape)
        self.values = like.new_zeros(shape)

    def extend(self, k: Tensor, v: Tensor, start: int) -> tuple[Tensor, Tensor]:
        """Store keys and values of the tokens from `start` on, and return all so far."""
        end = start + k.shape[2]
        self.keys[:, :, start:end] = k
        self.values[:, :, start:end] = v
        return self.keys[:, :, :end], self.values[:, :, :end]


class Attention(nn.Module):
    """Causal multi-head attention."""

    def __init__(self):
        super().__init__()
        self.qkv = nn.Linear(D_MODEL, 3 * D_MODEL)
        self.out = nn.Linear(D_MODEL, D_MODEL)

    def forward(self, x: Tensor, cache: KVCache | None, start: int) -> Tensor:
        B, T, _ = x.shape
        qkv = self.qkv(x).view(B, T, 3, N_HEADS, D_HEAD)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)  # (B, H, T, D) each
        if cache is not None:
            k, v = cache.extend(k, v, start)
        mask = None
        if start > 0:  # query i may attend to the keys up to start + i
            mask = torch.ones(T, start + T, dtype=torch.bool, device=x.device).tril(start)
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=mask is None)
        return self.out(y.transpose(1, 2).reshape(B, T, D_MODEL))


class MLP(nn.Module):
    """Two linear layers with a GELU in between."""

    def __init__(self):
        super().__init__()
        self.up = nn.Linear(D_MODEL, D_FF)
        self.down = nn.Linear(D_FF, D_MODEL)

    def forward(self, x: Tensor) -> Tensor:
        return self.down(F.gelu(self.up(x), approximate="tanh"))


class Block(nn.Module):
    """Attention and MLP, each after a layer norm, added to the residual stream."""

    def __init__(self):
        super().__init__()
        self.attention_norm = nn.LayerNorm(D_MODEL)
        self.attention = Attention()
        self.mlp_norm = nn.LayerNorm(D_MODEL)
        self.mlp = MLP()

    def forward(self, x: Tensor, cache: KVCache | None, start: int) -> Tensor:
        x = x + self.attention(self.attention_norm(x), cache, start)
        return x + self.mlp(self.mlp_norm(x))


class GPT2(nn.Module):
    """A decoder-only transformer with learned positions and tied embeddings."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(VOCAB_SIZE, D_MODEL)
        self.positions = nn.Embedding(CONTEXT_LENGTH, D_MODEL)
        self.blocks = nn.ModuleList(Block() for _ in range(N_LAYERS))
        self.norm = nn.LayerNorm(D_MODEL)
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
        x = self.embed(tokens) + self.positions(positions)
        for layer, block in enumerate(self.blocks):
            x = block(x, None if caches is None else caches[layer], start)
        logits = F.linear(self.norm(x), self.embed.weight)
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
                writes_residual = name.endswith(("attention.out", "mlp.down"))
                nn.init.normal_(module.weight, std=RESIDUAL_STD if writes_residual else INIT_STD)
            if isinstance(module, nn.Linear):
                nn.init.zeros_(module.bias)


def load(path: str) -> GPT2:
    """Return the model with the weights of a safetensors file, in eval mode."""
    model = GPT2()
    model.load_state_dict(load_file(path))
    return model.eval()
