"""The importer for Llama checkpoints."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from gptzoo.interop.gguf.architecture import LlamaGguf
from gptzoo.interop.importer import Importer, Weight, source_rows
from gptzoo.interop.rope import read_rope
from gptzoo.interop.settings import Settings
from gptzoo.spec.model import ModelSpec


class LlamaImporter(Importer):
    """Hugging Face Llama checkpoints: rotary positions, pre-norm with RMSNorm, GQA, SwiGLU, no biases."""

    name = "llama"
    paper = "Touvron et al. 2023, LLaMA: Open and Efficient Foundation Language Models, arXiv:2302.13971"
    prefix = "model."
    architecture = "LlamaForCausalLM"
    ignored = r"layers\.\d+\.self_attn\.rotary_emb\.inv_freq"  # computed from rope_theta; old versions saved it
    gguf = (LlamaGguf,)
    no_effect = frozenset({"is_decoder", "is_llama_config", "max_sequence_length", "pretraining_tp"})

    def spec(self, settings: Settings) -> dict[str, Any]:
        d_model = settings.count("hidden_size", 4096)
        n_heads = settings.count("num_attention_heads", 32)
        attention_bias = settings.flag("attention_bias", False)
        return {
            "vocab_size": settings.count("vocab_size", 32000),
            "context_length": settings.count("max_position_embeddings", 2048),
            "d_model": d_model,
            "n_layers": settings.count("num_hidden_layers", 32),
            "n_heads": n_heads,
            "d_head": settings.count("head_dim", None),
            "architecture": {"type": "decoder", "init_std": settings.number("initializer_range", 0.02)},
            "attention": {
                "type": "sdpa",
                "n_kv_heads": settings.count("num_key_value_heads", None) or n_heads,
                "dropout": settings.number("attention_dropout", 0.0),
                "qkv_bias": attention_bias,
                "out_bias": attention_bias,
            },
            "positional": read_rope(settings),
            "norm": {"type": "pre_ln", "layer": {"type": "rmsnorm", "eps": settings.number("rms_norm_eps", 1e-6)}},
            "activation": settings.activation("hidden_act", "silu"),
            "ffn": {
                "type": "glu",
                "d_ff": settings.count("intermediate_size", 11008),
                "bias": settings.flag("mlp_bias", False),
            },
            "dropout": 0.0,
            "bias": False,
            "tie_embeddings": settings.flag("tie_word_embeddings", False),
        }

    def weights(self, spec: ModelSpec) -> Iterator[Weight]:
        if spec.tie_embeddings:
            yield Weight("embed.weight", "embed_tokens.weight", copies=("lm_head.weight",))
        else:
            yield Weight("embed.weight", "embed_tokens.weight")
            yield Weight("head.weight", "lm_head.weight")
        attention: Any = spec.attention  # the config of `sdpa`
        ffn: Any = spec.ffn  # the config of `glu`
        q_width, kv_width = spec.n_heads * spec.dims.d_head, attention.n_kv_heads * spec.dims.d_head
        attention_kinds = ("weight", "bias") if attention.qkv_bias else ("weight",)
        ffn_kinds = ("weight", "bias") if ffn.bias else ("weight",)
        for layer in range(spec.n_layers):
            ours, theirs = f"blocks.{layer}", f"layers.{layer}"
            for kind in attention_kinds:
                qkv = tuple(f"{theirs}.self_attn.{name}_proj.{kind}" for name in "qkv")
                yield Weight(f"{ours}.attention.qkv.{kind}", qkv, shapes=source_rows(q_width, kv_width, kv_width))
                yield Weight(f"{ours}.attention.out.{kind}", f"{theirs}.self_attn.o_proj.{kind}")
            for kind in ffn_kinds:
                gate_up = (f"{theirs}.mlp.gate_proj.{kind}", f"{theirs}.mlp.up_proj.{kind}")
                yield Weight(f"{ours}.ffn.gate_up.{kind}", gate_up)
                yield Weight(f"{ours}.ffn.down.{kind}", f"{theirs}.mlp.down_proj.{kind}")
            yield Weight(f"{ours}.norm.layers.attention.weight", f"{theirs}.input_layernorm.weight")
            yield Weight(f"{ours}.norm.layers.ffn.weight", f"{theirs}.post_attention_layernorm.weight")
        yield Weight("exit.weight", "norm.weight")
