"""Specs of known models against the Hugging Face implementations of them, weights copied here by hand."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from support import tokens_of, with_large_weights
from torch import Tensor

import gptzoo

transformers = pytest.importorskip("transformers")

V, T, C, L, H = 23, 16, 32, 3, 4
SHAPE = {"vocab_size": V, "context_length": T, "d_model": C, "n_layers": L, "n_heads": H}


def gpt2(attention: str) -> tuple[Any, Any, dict[str, Any]]:
    """Theirs, our spec, and our names of their tensors."""
    theirs = transformers.GPT2LMHeadModel(
        transformers.GPT2Config(
            vocab_size=V,
            n_positions=T,
            n_embd=C,
            n_layer=L,
            n_head=H,
            layer_norm_epsilon=1e-3,
            resid_pdrop=0.0,
            embd_pdrop=0.0,
            attn_pdrop=0.0,
            attn_implementation="eager",
        )
    )
    norm = {"type": "pre_ln", "layer": {"type": "layernorm", "eps": 1e-3}}
    ours = SHAPE | {"attention": attention, "norm": norm, "activation": {"type": "gelu", "approximate": "tanh"}}

    def translate(tensor: dict[str, Tensor]) -> dict[str, Tensor]:
        named = {
            "embed.weight": tensor["transformer.wte.weight"],
            "positionals.0.table.weight": tensor["transformer.wpe.weight"],
            "exit.weight": tensor["transformer.ln_f.weight"],
            "exit.bias": tensor["transformer.ln_f.bias"],
        }
        pieces = {
            "norm.layers.attention": "ln_1",
            "norm.layers.ffn": "ln_2",
            "attention.qkv": "attn.c_attn",
            "attention.out": "attn.c_proj",
            "ffn.up": "mlp.c_fc",
            "ffn.down": "mlp.c_proj",
        }
        for layer in range(L):
            for mine, yours in pieces.items():
                for kind in ("weight", "bias"):
                    value = tensor[f"transformer.h.{layer}.{yours}.{kind}"]
                    # Their Conv1D keeps (in, out) where Linear keeps (out, in).
                    named[f"blocks.{layer}.{mine}.{kind}"] = value.T if value.ndim == 2 else value
        return named

    return theirs, ours, translate


def llama(attention: str, *, tied: bool = False) -> tuple[Any, Any, Any]:
    theirs = transformers.LlamaForCausalLM(
        transformers.LlamaConfig(
            vocab_size=V,
            hidden_size=C,
            intermediate_size=48,
            num_hidden_layers=L,
            num_attention_heads=H,
            num_key_value_heads=2,
            max_position_embeddings=T,
            rms_norm_eps=1e-3,
            rope_parameters={"rope_type": "default", "rope_theta": 500.0},
            tie_word_embeddings=tied,
            attn_implementation="eager",
        )
    )
    ours = SHAPE | {
        "attention": {"type": attention, "n_kv_heads": 2},
        "positional": {"type": "rope", "theta": 500.0},
        "norm": {"type": "pre_ln", "layer": {"type": "rmsnorm", "eps": 1e-3}},
        "ffn": {"type": "glu", "d_ff": 48, "activation": "silu"},
        "bias": False,
        "tie_embeddings": tied,
    }

    def translate(tensor: dict[str, Tensor]) -> dict[str, Tensor]:
        named = {"embed.weight": tensor["model.embed_tokens.weight"], "exit.weight": tensor["model.norm.weight"]}
        if not tied:
            named["head.weight"] = tensor["lm_head.weight"]
        pieces = {
            "norm.layers.attention": ["input_layernorm"],
            "norm.layers.ffn": ["post_attention_layernorm"],
            "attention.qkv": ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"],
            "attention.out": ["self_attn.o_proj"],
            "ffn.gate_up": ["mlp.gate_proj", "mlp.up_proj"],
            "ffn.down": ["mlp.down_proj"],
        }
        for layer in range(L):
            for mine, yours in pieces.items():
                values = [tensor[f"model.layers.{layer}.{name}.weight"] for name in yours]
                named[f"blocks.{layer}.{mine}.weight"] = torch.cat(values)
        return named

    return theirs, ours, translate


@pytest.mark.parametrize("attention", ["naive", "sdpa"])
@pytest.mark.parametrize(
    "family",
    [gpt2, llama, lambda attention: llama(attention, tied=True)],
    ids=["gpt2", "llama", "llama-tied"],
)
def test_logits_loss_and_all_gradients_equal_those_of_transformers(family: Any, attention: str, device: str) -> None:
    theirs, spec, translate = family(attention)
    with_large_weights(theirs.eval())
    ours = gptzoo.build(spec, seed=7).eval()
    ours.load_state_dict(translate(theirs.state_dict()))  # strict: every tensor has its counterpart
    ours, theirs = ours.to(device), theirs.to(device)

    tokens = tokens_of(ours, 2, T)
    expected = theirs(tokens, labels=tokens)  # which shifts the labels itself
    logits, _ = ours(tokens)
    torch.testing.assert_close(logits, expected.logits, rtol=1e-4, atol=1e-4)
    assert logits.std() > 0.3, "too quiet to tell anything"

    targets = torch.nn.functional.pad(tokens[:, 1:], (0, 1), value=-100)
    _, loss = ours(tokens, targets)
    torch.testing.assert_close(loss, expected.loss, rtol=1e-5, atol=1e-5)

    loss.backward()
    expected.loss.backward()
    gradients = translate({name: parameter.grad for name, parameter in theirs.named_parameters()})
    assert gradients.keys() == dict(ours.named_parameters()).keys()
    for name, parameter in ours.named_parameters():
        torch.testing.assert_close(parameter.grad, gradients[name], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("family", [gpt2, llama], ids=["gpt2", "llama"])
def test_greedy_continuations_equal_those_of_transformers(family: Any) -> None:
    theirs, spec, translate = family("sdpa")
    with_large_weights(theirs.eval())
    ours = gptzoo.build(spec).eval()
    ours.load_state_dict(translate(theirs.state_dict()))
    prompt = tokens_of(ours, 1, 5)
    settings = {"max_new_tokens": 8, "do_sample": False, "pad_token_id": 0, "eos_token_id": None}
    expected = theirs.generate(prompt, attention_mask=torch.ones_like(prompt), **settings)
    with torch.inference_mode():
        states = ours.new_states(1, T)
        logits, _ = ours(prompt, states=states, no_past=True, last_only=True)
        chosen = prompt.tolist()[0]
        for position in range(5, 13):
            chosen.append(int(logits[0, -1].argmax()))
            logits, _ = ours(torch.tensor([chosen[-1:]]), positions=torch.tensor([[position]]), states=states)
    assert chosen == expected.tolist()[0]
