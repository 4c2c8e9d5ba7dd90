"""The importer for GPT-2 checkpoints."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from gptzoo.interop.gguf.architecture import GPT2Gguf
from gptzoo.interop.importer import Importer, Weight, transpose
from gptzoo.interop.settings import Settings
from gptzoo.spec.model import ModelSpec

_VOCAB_SIZE = 50257


class GPT2Importer(Importer):
    """Hugging Face GPT-2 checkpoints: learned positions, pre-norm with LayerNorm, biases, tied embeddings."""

    name = "gpt2"
    paper = "Radford et al. 2019, Language Models are Unsupervised Multitask Learners (GPT-2)"
    prefix = "transformer."
    architecture = "GPT2LMHeadModel"
    ignored = r"h\.\d+\.attn\.(bias|masked_bias)"  # the causal mask, which old versions of transformers saved
    gguf = (GPT2Gguf,)
    no_effect = frozenset(
        {
            "is_decoder",
            "reorder_and_upcast_attn",  # the same product in another precision
            "summary_activation",
            "summary_first_dropout",
            "summary_proj_to_labels",
            "summary_type",
            "summary_use_proj",
        }
    )

    def spec(self, settings: Settings) -> dict[str, Any]:
        d_model = settings.count("n_embd", 768)
        context_length = settings.count("n_positions", 1024)
        settings.require("n_ctx", context_length)  # an older name of n_positions; some files have both
        n_layers, n_heads = settings.count("n_layer", 12), settings.count("n_head", 12)
        return {
            "vocab_size": settings.count("vocab_size", _VOCAB_SIZE),
            "context_length": context_length,
            "d_model": d_model,
            "n_layers": n_layers,
            "n_heads": n_heads,
            "architecture": {
                "type": "decoder",
                "embed_dropout": settings.number("embd_pdrop", 0.1),
                "init_std": settings.number("initializer_range", 0.02),
            },
            "attention": _attention(settings, n_layers, d_model // n_heads),
            "positional": "learned",
            "norm": {
                "type": "pre_ln",
                "layer": {"type": "layernorm", "eps": settings.number("layer_norm_epsilon", 1e-5)},
            },
            "activation": settings.activation("activation_function", "gelu_new"),
            "ffn": {"type": "mlp", "d_ff": settings.count("n_inner", None) or 4 * d_model},
            "dropout": settings.number("resid_pdrop", 0.1),
            "bias": True,
            "tie_embeddings": settings.flag("tie_word_embeddings", True),
        }

    def weights(self, spec: ModelSpec) -> Iterator[Weight]:
        if spec.tie_embeddings:
            yield Weight("embed.weight", "wte.weight", copies=("lm_head.weight",))
        else:
            yield Weight("embed.weight", "wte.weight")
            yield Weight("head.weight", "lm_head.weight")
        yield Weight("positionals.0.table.weight", "wpe.weight")
        for layer in range(spec.n_layers):
            ours, theirs = f"blocks.{layer}", f"h.{layer}"
            # A `Conv1D` of transformers is a linear layer that stores its weight transposed.
            for linear, conv1d in (
                ("attention.qkv", "attn.c_attn"),
                ("attention.out", "attn.c_proj"),
                ("ffn.up", "mlp.c_fc"),
                ("ffn.down", "mlp.c_proj"),
            ):
                yield Weight(f"{ours}.{linear}.weight", f"{theirs}.{conv1d}.weight", transpose)
                yield Weight(f"{ours}.{linear}.bias", f"{theirs}.{conv1d}.bias")
            for kind in ("weight", "bias"):
                yield Weight(f"{ours}.norm.layers.attention.{kind}", f"{theirs}.ln_1.{kind}")
                yield Weight(f"{ours}.norm.layers.ffn.{kind}", f"{theirs}.ln_2.{kind}")
        yield Weight("exit.weight", "ln_f.weight")
        yield Weight("exit.bias", "ln_f.bias")

    def tokenizer(self, spec: ModelSpec) -> str | dict[str, Any] | None:
        return {"type": "tiktoken", "name": "gpt2"} if spec.vocab_size == _VOCAB_SIZE else None


def _attention(settings: Settings, n_layers: int, d_head: int) -> dict[str, Any] | list[dict[str, Any]]:
    """Return the attention as JSON; a list with one for each layer if the scale of scores depends on the layer."""
    attention: dict[str, Any] = {"type": "sdpa", "dropout": settings.number("attn_pdrop", 0.1)}
    scaled = settings.flag("scale_attn_weights", True)
    scale = d_head**-0.5 if scaled else 1.0
    if settings.flag("scale_attn_by_inverse_layer_idx", False):
        return [{**attention, "scale": scale / (layer + 1)} for layer in range(n_layers)]
    return attention if scaled else {**attention, "scale": scale}
