"""Models compared with transformers: GPT-NeoX and GPT-J (parallel), OLMo 2 (reordered), Gemma 2 (sandwich)."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import gptzoo

transformers = pytest.importorskip("transformers")

SIZES: dict[str, Any] = {"vocab_size": 13, "context_length": 16, "d_model": 32, "n_layers": 2, "tie_embeddings": False}


def transformers_model(model_class: Any, config: Any) -> Any:
    """Build a model of transformers with weights so large that every parameter affects the logits."""
    model = model_class(config).eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            is_gain = parameter.ndim == 1 and name.endswith("weight")
            parameter.copy_(noise * (0.3 if parameter.ndim == 1 else parameter.shape[-1] ** -0.5) + is_gain)
    return model


def load(module: nn.Module, **tensors: Tensor) -> None:
    module.load_state_dict(tensors)


def copy(ours: nn.Module, theirs: nn.Module) -> None:
    ours.load_state_dict(theirs.state_dict())


@torch.no_grad()
def assert_equal_logits(ours: Any, theirs: Any) -> None:
    tokens = torch.randint(13, (2, 11), generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(ours.eval()(tokens)[0], theirs(tokens).logits, rtol=1e-4, atol=1e-4)


def test_parallel_with_two_norms_equals_gpt_neox() -> None:
    config = transformers.GPTNeoXConfig(
        vocab_size=13,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=128,
        max_position_embeddings=16,
        rope_parameters={"rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": 1.0},
        use_parallel_residual=True,
        tie_word_embeddings=False,
    )
    theirs = transformers_model(transformers.GPTNeoXForCausalLM, config)
    ours = gptzoo.build({**SIZES, "n_heads": 4, "positional": "rope", "norm": {"type": "parallel", "shared": False}})

    def by_projection(tensor: Tensor) -> Tensor:
        """Reorder rows from query, key and value per head to all queries, all keys and all values."""
        return tensor.unflatten(0, (4, 3, 8)).transpose(0, 1).flatten(0, 2)

    load(ours.embed, weight=theirs.gpt_neox.embed_in.weight)
    load(ours.head, weight=theirs.lm_head.weight)
    copy(ours.exit, theirs.gpt_neox.final_layer_norm)
    for block, layer in zip(ours.blocks, theirs.gpt_neox.layers, strict=True):
        copy(block.norm.layers["attention"], layer.input_layernorm)
        copy(block.norm.layers["ffn"], layer.post_attention_layernorm)
        qkv = layer.attention.query_key_value
        load(block.attention.qkv, weight=by_projection(qkv.weight), bias=by_projection(qkv.bias))
        copy(block.attention.out, layer.attention.dense)
        copy(block.ffn.up, layer.mlp.dense_h_to_4h)
        copy(block.ffn.down, layer.mlp.dense_4h_to_h)
    assert_equal_logits(ours, theirs)


def test_parallel_with_a_shared_norm_equals_gpt_j() -> None:
    config = transformers.GPTJConfig(vocab_size=13, n_embd=32, n_layer=2, n_head=4, n_positions=16, rotary_dim=8)
    theirs = transformers_model(transformers.GPTJForCausalLM, config)
    ours = gptzoo.build(
        {
            **SIZES,
            "n_heads": 4,
            "architecture": {"type": "decoder", "head_bias": True},
            "attention": {"type": "sdpa", "qkv_bias": False, "out_bias": False},
            "positional": "rope",
            "norm": {"type": "parallel", "shared": True},
            "activation": {"type": "gelu", "approximate": "tanh"},
        }
    )

    def pair_halves(weight: Tensor) -> Tensor:
        """Reorder rotated rows from the pairs (2i, 2i + 1) of GPT-J to the pairs (i, i + D/2) of `rope`."""
        return weight.unflatten(0, (4, 4, 2)).transpose(1, 2).flatten(0, 2)

    load(ours.embed, weight=theirs.transformer.wte.weight)
    copy(ours.head, theirs.lm_head)
    copy(ours.exit, theirs.transformer.ln_f)
    for block, layer in zip(ours.blocks, theirs.transformer.h, strict=True):
        copy(block.norm.layers["shared"], layer.ln_1)
        q, k, v = (getattr(layer.attn, name).weight for name in ("q_proj", "k_proj", "v_proj"))
        load(block.attention.qkv, weight=torch.cat([pair_halves(q), pair_halves(k), v]))
        copy(block.attention.out, layer.attn.out_proj)
        copy(block.ffn.up, layer.mlp.fc_in)
        copy(block.ffn.down, layer.mlp.fc_out)
    assert_equal_logits(ours, theirs)


def load_swiglu(block: Any, mlp: Any) -> None:
    load(block.ffn.gate_up, weight=torch.cat([mlp.gate_proj.weight, mlp.up_proj.weight]))
    copy(block.ffn.down, mlp.down_proj)


def load_attention(block: Any, attn: Any) -> None:
    load(block.attention.qkv, weight=torch.cat([attn.q_proj.weight, attn.k_proj.weight, attn.v_proj.weight]))
    copy(block.attention.out, attn.o_proj)


def test_reordered_equals_olmo_2() -> None:
    config = transformers.Olmo2Config(
        vocab_size=13,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=1,  # OLMo 2 normalises queries and keys over all heads together
        intermediate_size=48,
        max_position_embeddings=16,
        tie_word_embeddings=False,
        rms_norm_eps=1e-5,
        pad_token_id=None,
    )
    theirs = transformers_model(transformers.Olmo2ForCausalLM, config)
    ours = gptzoo.build(
        {
            **SIZES,
            "n_heads": 1,
            "bias": False,
            "attention": {"type": "sdpa", "qk_norm": "rmsnorm"},
            "positional": {"type": "rope", "theta": config.rope_parameters["rope_theta"]},
            "norm": {"type": "reordered", "layer": "rmsnorm"},
            "activation": "silu",
            "ffn": {"type": "glu", "d_ff": 48},
        }
    )
    load(ours.embed, weight=theirs.model.embed_tokens.weight)
    copy(ours.head, theirs.lm_head)
    copy(ours.exit, theirs.model.norm)
    for block, layer in zip(ours.blocks, theirs.model.layers, strict=True):
        copy(block.norm.layers["attention"], layer.post_attention_layernorm)
        copy(block.norm.layers["ffn"], layer.post_feedforward_layernorm)
        load_attention(block, layer.self_attn)
        copy(block.attention.q_norm, layer.self_attn.q_norm)
        copy(block.attention.k_norm, layer.self_attn.k_norm)
        load_swiglu(block, layer.mlp)
    assert_equal_logits(ours, theirs)


def test_sandwich_equals_gemma_2() -> None:
    config = transformers.Gemma2Config(
        vocab_size=13,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=8,
        query_pre_attn_scalar=8,
        intermediate_size=48,
        max_position_embeddings=16,
        tie_word_embeddings=False,
        attn_logit_softcapping=None,
        final_logit_softcapping=None,
        layer_types=["full_attention"] * 2,
        rms_norm_eps=1e-5,
        pad_token_id=None,
    )
    theirs = transformers_model(transformers.Gemma2ForCausalLM, config)
    ours = gptzoo.build(
        {
            **SIZES,
            "n_heads": 4,
            "bias": False,
            "attention": {"type": "sdpa", "n_kv_heads": 2},
            "positional": "rope",
            "norm": {"type": "sandwich", "layer": "rmsnorm"},
            "activation": {"type": "gelu", "approximate": "tanh"},
            "ffn": {"type": "glu", "d_ff": 48},
        }
    )

    def load_gain(norm: nn.Module, gemma_norm: Any) -> None:
        load(norm, weight=1 + gemma_norm.weight)

    load(ours.embed, weight=theirs.model.embed_tokens.weight * 32**0.5)  # Gemma scales embeddings in its forward pass
    copy(ours.head, theirs.lm_head)
    load_gain(ours.exit, theirs.model.norm)
    for block, layer in zip(ours.blocks, theirs.model.layers, strict=True):
        load_gain(block.norm.before["attention"], layer.input_layernorm)
        load_gain(block.norm.layers["attention"], layer.post_attention_layernorm)
        load_gain(block.norm.before["ffn"], layer.pre_feedforward_layernorm)
        load_gain(block.norm.layers["ffn"], layer.post_feedforward_layernorm)
        load_attention(block, layer.self_attn)
        load_swiglu(block, layer.mlp)
    assert_equal_logits(ours, theirs)
