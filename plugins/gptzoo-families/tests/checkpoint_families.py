"""Small random models of each family, made by transformers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import transformers
from torch import nn

SIZES = {
    "vocab_size": 96,
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "intermediate_size": 96,
    "max_position_embeddings": 128,
    "num_attention_heads": 4,
    "pad_token_id": None,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
GPT_SIZES = {"vocab_size": 96, "n_embd": 64, "n_layer": 2, "n_head": 4, "n_positions": 128}
LOCAL_AND_GLOBAL = ["sliding_attention", "full_attention"]
LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 500000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}
YARN = {"rope_type": "yarn", "factor": 4.0, "rope_theta": 10000.0, "original_max_position_embeddings": 32}
LATENT = {
    "num_key_value_heads": 4,
    "kv_lora_rank": 16,
    "qk_rope_head_dim": 8,
    "qk_nope_head_dim": 16,
    "v_head_dim": 12,
    "moe_intermediate_size": 32,
    "n_routed_experts": 4,
    "num_experts_per_tok": 2,
}
DELTA = {
    "linear_num_key_heads": 2,
    "linear_key_head_dim": 16,
    "linear_value_head_dim": 16,
    "moe_intermediate_size": 32,
    "num_experts": 4,
    "num_experts_per_tok": 2,
    "shared_expert_intermediate_size": 48,
}


def rope(fraction: float, theta: float = 10000.0) -> dict[str, Any]:
    return {"rope_type": "default", "rope_theta": theta, "partial_rotary_factor": fraction}


CONFIGS: Mapping[str, tuple[str, dict[str, Any]]] = {
    "mistral": ("Mistral", {"num_key_value_heads": 2, "sliding_window": 16}),
    "mistral-full": ("Mistral", {"num_key_value_heads": 1, "sliding_window": None, "head_dim": 24}),
    "mistral-window-1": ("Mistral", {"num_key_value_heads": 4, "sliding_window": 1}),
    "qwen2": ("Qwen2", {"num_key_value_heads": 2, "use_sliding_window": False}),
    "qwen2-window": (
        "Qwen2",
        {
            "num_key_value_heads": 4,
            "use_sliding_window": True,
            "sliding_window": 16,
            "max_window_layers": 1,
            "tie_word_embeddings": True,
        },
    ),
    "qwen2-yarn": ("Qwen2", {"num_key_value_heads": 1, "rope_parameters": YARN}),
    "qwen3": ("Qwen3", {"num_key_value_heads": 2, "head_dim": 32}),
    "qwen3-tied": (
        "Qwen3",
        {"num_key_value_heads": 1, "head_dim": 16, "tie_word_embeddings": True, "attention_bias": True},
    ),
    "qwen3-llama3": ("Qwen3", {"num_key_value_heads": 4, "head_dim": 32, "rope_parameters": LLAMA3}),
    "smollm3": ("SmolLM3", {"num_key_value_heads": 2, "no_rope_layers": [1, 0]}),
    "smollm3-bias": (
        "SmolLM3",
        {"num_key_value_heads": 4, "no_rope_layers": [1, 1], "attention_bias": True, "mlp_bias": True},
    ),
    "granite": (
        "Granite",
        {
            "num_key_value_heads": 2,
            "embedding_multiplier": 12.0,
            "logits_scaling": 8.0,
            "residual_multiplier": 0.22,
            "attention_multiplier": 0.015625,
        },
    ),
    "granite-bias": (
        "Granite",
        {
            "num_key_value_heads": 1,
            "embedding_multiplier": 3.0,
            "logits_scaling": 2.0,
            "residual_multiplier": 0.5,
            "attention_multiplier": 0.3,
            "attention_bias": True,
            "mlp_bias": True,
            "tie_word_embeddings": True,
        },
    ),
    "starcoder2": ("Starcoder2", {"num_key_value_heads": 2, "sliding_window": 16}),
    "starcoder2-no-bias": ("Starcoder2", {"num_key_value_heads": 1, "use_bias": False, "sliding_window": None}),
    "phi3": ("Phi3", {"num_key_value_heads": 2, "sliding_window": 16}),
    "phi4-mini": ("Phi3", {"num_key_value_heads": 4, "sliding_window": None, "rope_parameters": rope(0.75)}),
    "gemma": ("Gemma", {"num_key_value_heads": 1, "head_dim": 24}),
    "gemma-wide": ("Gemma", {"num_key_value_heads": 4, "head_dim": 32}),
    "gemma2": (
        "Gemma2",
        {
            "num_key_value_heads": 2,
            "head_dim": 24,
            "query_pre_attn_scalar": 32,
            "sliding_window": 16,
            "attn_logit_softcapping": 0.5,
            "final_logit_softcapping": 1.0,
        },
    ),
    "gemma2-no-cap": (
        "Gemma2",
        {
            "num_key_value_heads": 1,
            "head_dim": 16,
            "query_pre_attn_scalar": 16,
            "sliding_window": 8,
            "attn_logit_softcapping": None,
            "final_logit_softcapping": None,
        },
    ),
    "gemma3": (
        "Gemma3Text",
        {
            "num_key_value_heads": 1,
            "head_dim": 24,
            "query_pre_attn_scalar": 20,
            "sliding_window": 16,
            "layer_types": LOCAL_AND_GLOBAL,
        },
    ),
    "gemma3-scaled": (
        "Gemma3Text",
        {
            "num_hidden_layers": 3,
            "num_key_value_heads": 2,
            "head_dim": 8,
            "query_pre_attn_scalar": 64,
            "sliding_window": 5,
            "layer_types": ["sliding_attention", "sliding_attention", "full_attention"],
            "rope_parameters": {
                "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 1e6},
                "sliding_attention": {"rope_type": "default", "rope_theta": 1e4},
            },
        },
    ),
    "olmo": ("Olmo", {"num_key_value_heads": 2, "clip_qkv": 0.02}),
    "olmo-no-clip": ("Olmo", {"num_key_value_heads": 4}),
    "olmo2": ("Olmo2", {"num_key_value_heads": 2}),
    "olmo2-yarn": ("Olmo2", {"num_key_value_heads": 1, "tie_word_embeddings": True, "rope_parameters": YARN}),
    "olmo3": ("Olmo3", {"num_key_value_heads": 2, "sliding_window": 16, "layer_types": LOCAL_AND_GLOBAL}),
    "phi": ("Phi", {"rope_parameters": rope(0.5)}),
    "phi-qk-norm": ("Phi", {"num_attention_heads": 2, "qk_layernorm": True, "rope_parameters": rope(0.4)}),
    "gpt-neox": ("GPTNeoX", {"rope_parameters": rope(0.25)}),
    "gpt-neox-serial": (
        "GPTNeoX",
        {
            "num_attention_heads": 2,
            "use_parallel_residual": False,
            "attention_bias": False,
            "rope_parameters": rope(1.0),
        },
    ),
    "stablelm": ("StableLm", {"num_key_value_heads": 2, "use_qkv_bias": True, "rope_parameters": rope(0.25)}),
    "stablelm-parallel": (
        "StableLm",
        {
            "num_key_value_heads": 1,
            "use_parallel_residual": True,
            "qk_layernorm": True,
            "rope_parameters": rope(0.5),
        },
    ),
    "cohere": ("Cohere", {"num_key_value_heads": 2, "logit_scale": 0.0625}),
    "cohere-qk-norm": ("Cohere", {"num_key_value_heads": 2, "logit_scale": 0.5, "use_qk_norm": True}),
    "glm": ("Glm", {"num_key_value_heads": 2, "head_dim": 16, "attention_bias": True}),
    "glm4": ("Glm4", {"num_key_value_heads": 2, "head_dim": 32, "attention_bias": True}),
    "glm4-no-bias": ("Glm4", {"num_key_value_heads": 1, "head_dim": 16, "attention_bias": False}),
    "mixtral": (
        "Mixtral",
        {"num_key_value_heads": 2, "num_local_experts": 4, "num_experts_per_tok": 2, "sliding_window": None},
    ),
    "mixtral-window": (
        "Mixtral",
        {"num_key_value_heads": 1, "num_local_experts": 3, "num_experts_per_tok": 2, "sliding_window": 12},
    ),
    "qwen3-moe": (
        "Qwen3Moe",
        {
            "num_key_value_heads": 2,
            "head_dim": 16,
            "moe_intermediate_size": 32,
            "num_experts": 4,
            "num_experts_per_tok": 2,
            "norm_topk_prob": True,
            "decoder_sparse_step": 1,
        },
    ),
    "qwen3-moe-mixed": (
        "Qwen3Moe",
        {
            "num_key_value_heads": 1,
            "head_dim": 32,
            "moe_intermediate_size": 32,
            "num_experts": 4,
            "num_experts_per_tok": 3,
            "norm_topk_prob": False,
            "mlp_only_layers": [0],
        },
    ),
    "olmoe": ("Olmoe", {"num_key_value_heads": 2, "num_experts": 4, "num_experts_per_tok": 2, "clip_qkv": None}),
    "olmoe-clip": ("Olmoe", {"num_key_value_heads": 4, "num_experts": 3, "num_experts_per_tok": 1, "clip_qkv": 0.5}),
    "gpt-oss": (
        "GptOss",
        {
            "num_key_value_heads": 2,
            "head_dim": 16,
            "num_local_experts": 4,
            "num_experts_per_tok": 2,
            "swiglu_limit": 0.3,
            "sliding_window": 16,
            "layer_types": LOCAL_AND_GLOBAL,
            "rope_parameters": {**YARN, "beta_fast": 32.0, "beta_slow": 1.0, "truncate": False},
        },
    ),
    "deepseek-v2": (
        "DeepseekV2",
        {
            **LATENT,
            "q_lora_rank": 24,
            "n_shared_experts": 2,
            "first_k_dense_replace": 1,
            "n_group": 2,
            "topk_group": 1,
            "topk_method": "group_limited_greedy",
            "routed_scaling_factor": 2.0,
        },
    ),
    "deepseek-v2-lite": (
        "DeepseekV2",
        {**LATENT, "q_lora_rank": None, "n_shared_experts": 1, "first_k_dense_replace": 0, "topk_method": "greedy"},
    ),
    "deepseek-v3": (
        "DeepseekV3",
        {
            **LATENT,
            "q_lora_rank": 24,
            "n_shared_experts": 1,
            "first_k_dense_replace": 1,
            "n_group": 2,
            "topk_group": 1,
            "rope_parameters": {**YARN, "mscale": 1.0, "mscale_all_dim": 0.7, "beta_fast": 32, "beta_slow": 1},
        },
    ),
    "deepseek-v3-groups": (
        "DeepseekV3",
        {
            **LATENT,
            "num_hidden_layers": 3,
            "num_attention_heads": 2,
            "num_key_value_heads": 2,
            "q_lora_rank": None,
            "n_routed_experts": 8,
            "num_experts_per_tok": 3,
            "n_shared_experts": 2,
            "first_k_dense_replace": 1,
            "n_group": 4,
            "topk_group": 3,
            "norm_topk_prob": False,
        },
    ),
    "qwen3-next": (
        "Qwen3Next",
        {
            **DELTA,
            "num_key_value_heads": 2,
            "head_dim": 16,
            "linear_num_value_heads": 4,
            "layer_types": ["linear_attention", "full_attention"],
        },
    ),
    "qwen3-next-mixed": (
        "Qwen3Next",
        {
            **DELTA,
            "num_hidden_layers": 4,
            "num_key_value_heads": 1,
            "head_dim": 32,
            "linear_num_value_heads": 6,
            "linear_num_key_heads": 3,
            "linear_value_head_dim": 24,
            "num_experts_per_tok": 3,
            "norm_topk_prob": False,
            "mlp_only_layers": [1],
        },
    ),
    "falcon-7b": ("Falcon", {"multi_query": True, "parallel_attn": True, "bias": False}),
    "falcon-40b": ("Falcon", {"num_kv_heads": 2, "new_decoder_architecture": True, "bias": False}),
    "falcon-rw": (
        "Falcon",
        {"multi_query": False, "parallel_attn": False, "bias": True, "alibi": True, "new_decoder_architecture": False},
    ),
    "gptj": ("GPTJ", {**GPT_SIZES, "rotary_dim": 8}),
    "gptj-wide": ("GPTJ", {**GPT_SIZES, "n_head": 2, "rotary_dim": 32, "n_inner": 80}),
    "opt": ("OPT", {"ffn_dim": 96, "word_embed_proj_dim": 64, "pad_token_id": 1}),
    "bloom": ("Bloom", {"vocab_size": 96, "hidden_size": 64, "n_layer": 2, "n_head": 4}),
    "bloom-6-heads": ("Bloom", {"vocab_size": 96, "hidden_size": 48, "n_layer": 1, "n_head": 6}),
}
"""By name: the family's name in transformers, and the settings besides SIZES."""


def make_model(name: str, seed: int = 0) -> Any:
    """Return a model of transformers with random weights, of which none is at a neutral initial value."""
    family, options = CONFIGS[name]
    sizes = {} if family in ("GPTJ", "Bloom", "GPT2") else dict(SIZES)
    if family in ("OPT", "Falcon"):  # they have other names for it
        del sizes["intermediate_size"]
    config = getattr(transformers, f"{family}Config")(**{**sizes, "bos_token_id": 1, "eos_token_id": 2, **options})
    if family == "Falcon":  # its eager attention adds the bias of ALiBi twice
        config._attn_implementation = "sdpa"
    torch.manual_seed(seed)
    model = transformers.AutoModelForCausalLM.from_config(config).eval()
    randomise(model, seed)
    return model


def randomise(model: nn.Module, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed + 1)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            scale = 0.2 if parameter.ndim == 1 or "norm" in name or "A_log" in name else 0.08
            parameter.add_(torch.randn(parameter.shape, generator=generator) * scale)
        for name, buffer in model.named_buffers():
            if "correction_bias" in name:
                buffer.add_(torch.randn(buffer.shape, generator=generator) * 0.3)
