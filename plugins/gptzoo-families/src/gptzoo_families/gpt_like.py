"""Families with settings or tensors in the manner of GPT-2: GPT-J, OPT and BLOOM."""

from __future__ import annotations

from collections.abc import Iterator

import gptzoo
from gptzoo import Settings, Weight
from gptzoo_families.gguf.pre_norm import BloomGguf
from gptzoo_families.llama_like import AttentionConfig, Json, LlamaLike
from gptzoo_families.tensors import Conversion, drop_rows, ungroup_qkv

_SUMMARY = frozenset(
    {
        "summary_activation",
        "summary_first_dropout",
        "summary_proj_to_labels",
        "summary_type",
        "summary_use_proj",
    }
)


class GPTJ(LlamaLike):
    """GPT-J: parallel blocks with one norm, and rotary positions on a part of each head."""

    name = "gptj"
    architecture = "GPTJForCausalLM"
    paper = "Wang and Komatsuzaki 2021, GPT-J-6B"
    prefix = "transformer."
    ignored = r"h\.\d+\.attn\.(bias|masked_bias|embed_positions)"
    no_effect = LlamaLike.no_effect | _SUMMARY | {"scale_attn_weights"}
    embed = "wte"
    exit = "ln_f"
    layers = "h"
    attention = "attn"
    out = "out_proj"
    up = ("fc_in",)
    down = "fc_out"
    norms = {"layers.shared": "ln_1"}
    interleaved = True

    def spec(self, settings: Settings) -> Json:
        d_model, n_heads = settings.count("n_embd", 4096), settings.count("n_head", 16)
        dropout = settings.number("resid_pdrop", 0.0)
        return {
            "vocab_size": settings.count("vocab_size", 50400),
            "context_length": settings.count("n_positions", 2048),
            "d_model": d_model,
            "n_layers": settings.count("n_layer", 28),
            "n_heads": n_heads,
            "architecture": {
                "type": "decoder",
                "head_bias": True,
                "embed_dropout": settings.number("embd_pdrop", 0.0),
                "init_std": settings.number("initializer_range", 0.02),
            },
            "attention": {
                "type": "sdpa",
                "qkv_bias": False,
                "out_bias": False,
                "dropout": settings.number("attn_pdrop", 0.0),
            },
            "positional": {"type": "rope", "fraction": settings.count("rotary_dim", 64) / (d_model // n_heads)},
            "norm": {
                "type": "parallel",
                "layer": {"type": "layernorm", "eps": settings.number("layer_norm_epsilon", 1e-5)},
            },
            "activation": settings.activation("activation_function", "gelu_new"),
            "ffn": {"type": "mlp", "d_ff": settings.count("n_inner", None) or 4 * d_model},
            "dropout": dropout,
            "bias": True,
            "tie_embeddings": settings.flag("tie_word_embeddings", False),
        }

    def settings(self, spec: gptzoo.ModelSpec) -> Json:
        return {**super().settings(spec), "rotary_dim": self.rotary_width(spec)}


class OPT(LlamaLike):
    """OPT: learned positions, pre-norm with LayerNorm, and ReLU. OPT-350m, which is post-norm, is refused."""

    name = "opt"
    architecture = "OPTForCausalLM"
    paper = "Zhang et al. 2022, OPT: Open Pre-trained Transformer Language Models, arXiv:2205.01068"
    prefix = "model.decoder."
    no_effect = LlamaLike.no_effect | {"activation_dropout", "layerdrop"}
    exit = "final_layer_norm"
    out = "out_proj"
    ffn = ""
    up = ("fc1",)
    down = "fc2"
    norms = {"layers.attention": "self_attn_layer_norm", "layers.ffn": "final_layer_norm"}

    def spec(self, settings: Settings) -> Json:
        d_model = settings.count("hidden_size", 768)
        settings.require("word_embed_proj_dim", d_model)
        settings.require("do_layer_norm_before", True)
        settings.require("_remove_final_layer_norm", False)
        settings.require("enable_bias", True)
        settings.require("layer_norm_elementwise_affine", True)
        return {
            "vocab_size": settings.count("vocab_size", 50272),
            "context_length": settings.count("max_position_embeddings", 2048),
            "d_model": d_model,
            "n_layers": settings.count("num_hidden_layers", 12),
            "n_heads": settings.count("num_attention_heads", 12),
            "architecture": {"type": "decoder", "init_std": settings.number("init_std", 0.02), "embed_dropout": 0.0},
            "attention": {"type": "sdpa", "dropout": settings.number("attention_dropout", 0.0)},
            "positional": "learned",
            "norm": {"type": "pre_ln", "layer": "layernorm"},
            "activation": settings.activation("activation_function", "relu"),
            "ffn": {"type": "mlp", "d_ff": settings.count("ffn_dim", 3072)},
            "dropout": settings.number("dropout", 0.1),
            "bias": True,
            "tie_embeddings": settings.flag("tie_word_embeddings", True),
        }

    def settings(self, spec: gptzoo.ModelSpec) -> Json:
        settings = super().settings(spec)
        return {**settings, "word_embed_proj_dim": spec.d_model, "init_std": settings["initializer_range"]}

    def end_weights(self, spec: gptzoo.ModelSpec) -> Iterator[Weight]:
        yield from super().end_weights(spec)
        # Positions start at row 2; the first two rows are never used.
        rows = gptzoo.source_rows(spec.context_length + 2)
        yield Weight("positionals.0.table.weight", "embed_positions.weight", drop_rows(2), shapes=rows)


class Bloom(LlamaLike):
    """BLOOM: ALiBi, and a norm of the embeddings."""

    name = "bloom"
    architecture = "BloomForCausalLM"
    gguf = (BloomGguf,)
    paper = "BigScience Workshop 2022, BLOOM, arXiv:2211.05100"
    prefix = "transformer."
    no_effect = LlamaLike.no_effect | {
        "attention_softmax_in_fp32",
        "bias_dropout_fusion",
        "masked_softmax_fusion",
        "n_inner",
        "offset_alibi",
        "skip_bias_add",
        "skip_bias_add_qkv",
        "slow_but_exact",
        "unk_token_id",
    }
    embed = "word_embeddings"
    exit = "ln_f"
    layers = "h"
    attention = "self_attention"
    qkv = ("query_key_value",)
    out = "dense"
    up = ("dense_h_to_4h",)
    down = "dense_4h_to_h"

    def spec(self, settings: Settings) -> Json:
        settings.require("apply_residual_connection_post_layernorm", False)
        d_model = settings.count("hidden_size", 64)
        return {
            "vocab_size": settings.count("vocab_size", 250880),
            "context_length": settings.count("seq_length", 2048),  # that of training; there is no limit
            "d_model": d_model,
            "n_layers": settings.count("n_layer", 2),
            "n_heads": settings.count("n_head", 8),
            "architecture": {"type": "decoder", "init_std": settings.number("initializer_range", 0.02)},
            "attention": {"type": "sdpa", "dropout": settings.number("attention_dropout", 0.0)},
            "positional": "alibi",
            "norm": {
                "type": "pre_ln",
                "embedding_norm": True,
                "layer": {"type": "layernorm", "eps": settings.number("layer_norm_epsilon", 1e-5)},
            },
            "activation": {"type": "gelu", "approximate": "tanh"},
            "ffn": {"type": "mlp", "d_ff": 4 * d_model},
            "dropout": settings.number("hidden_dropout", 0.0),
            "bias": True,
            "tie_embeddings": settings.flag("tie_word_embeddings", True),
        }

    def settings(self, spec: gptzoo.ModelSpec) -> Json:
        return {**super().settings(spec), "seq_length": spec.context_length}

    def end_weights(self, spec: gptzoo.ModelSpec) -> Iterator[Weight]:
        yield from super().end_weights(spec)
        yield from self.norm(spec.norm.layer, "entry", "word_embeddings_layernorm")

    def convert_qkv(self, spec: gptzoo.ModelSpec, config: AttentionConfig) -> Conversion:
        return ungroup_qkv(spec.n_heads, spec.n_heads, spec.dims.d_head)
