"""Multi-head latent attention compared with DeepSeek-V2 in transformers, and its cache."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from gptzoo_memory import LatentAttention
from torch import Tensor

import gptzoo

SIZES = {"kv_rank": 10, "rope_dim": 4, "nope_dim": 5, "v_dim": 7}


def pair_halves(rows: Tensor) -> Tensor:
    """Reorder rotated rows from DeepSeek's pairs (2i, 2i + 1) to the pairs (i, i + half) of `rope`."""
    return torch.cat([rows[..., 0::2, :], rows[..., 1::2, :]], dim=-2)


def load(layer: LatentAttention, theirs: Any) -> None:
    """Load the weights of a DeepseekV2Attention into an `mla` layer."""

    def queries(weight: Tensor) -> Tensor:
        heads = weight.unflatten(0, (layer.n_heads, -1))
        nope, rope = heads.split([layer.nope_dim, layer.rope_dim], dim=1)
        return torch.cat([nope, pair_halves(rope)], dim=1).flatten(0, 1)

    def latent_and_key(weight: Tensor) -> Tensor:
        latent, rope = weight.split([layer.kv_rank, layer.rope_dim])
        return torch.cat([latent, pair_halves(rope)])

    weights = dict(theirs.named_parameters())
    renamed = {
        "kv_down.weight": latent_and_key(weights["kv_a_proj_with_mqa.weight"]),
        "kv_norm.weight": weights["kv_a_layernorm.weight"],
        "kv.weight": weights["kv_b_proj.weight"],
        "out.weight": weights["o_proj.weight"],
    }
    if "q_proj.weight" in weights:
        renamed["q.weight"] = queries(weights["q_proj.weight"])
    else:
        renamed["q.down.weight"] = weights["q_a_proj.weight"]
        renamed["q.norm.weight"] = weights["q_a_layernorm.weight"]
        renamed["q.up.weight"] = queries(weights["q_b_proj.weight"])
    if "o_proj.bias" in weights:
        renamed["q.down.bias"] = weights["q_a_proj.bias"]
        renamed["kv_down.bias"] = latent_and_key(weights["kv_a_proj_with_mqa.bias"][:, None])[:, 0]
        renamed["out.bias"] = weights["o_proj.bias"]
    layer.load_state_dict(renamed)


@pytest.mark.parametrize(("q_rank", "bias"), [(None, False), (6, False), (6, True)])
@torch.inference_mode()
def test_it_equals_deepseek_v2_with_and_without_cache(
    model_of: Any, context_of: Any, q_rank: int | None, bias: bool
) -> None:
    configuration = pytest.importorskip("transformers.models.deepseek_v2.configuration_deepseek_v2")
    modeling = pytest.importorskip("transformers.models.deepseek_v2.modeling_deepseek_v2")
    config = configuration.DeepseekV2Config(
        hidden_size=24,
        num_attention_heads=4,
        num_key_value_heads=4,
        q_lora_rank=q_rank,
        kv_lora_rank=SIZES["kv_rank"],
        qk_rope_head_dim=SIZES["rope_dim"],
        qk_nope_head_dim=SIZES["nope_dim"],
        v_head_dim=SIZES["v_dim"],
        attention_bias=bias,
        attn_implementation="eager",
        rope_parameters={"rope_type": "default", "rope_theta": 10000.0},
    )
    torch.manual_seed(0)
    theirs = modeling.DeepseekV2Attention(config, 0).double().eval()
    for parameter in theirs.parameters():
        torch.nn.init.normal_(parameter, mean=float(parameter.ndim == 1), std=parameter.shape[-1] ** -0.5)
    options = {"q_rank": q_rank, "qkv_bias": bias, "out_bias": bias, "norm": {"type": "rmsnorm", "eps": 1e-6}}
    model = model_of(attention={"type": "mla", **SIZES, **options})
    layer = model.blocks[0].attention
    load(layer, theirs)

    x, positions = torch.randn(2, 11, 24, dtype=torch.float64), torch.arange(11)[None]
    mask = torch.full((11, 11), -torch.inf, dtype=torch.float64).triu(1)[None, None]
    rotations = modeling.DeepseekV2RotaryEmbedding(config)(x, positions)
    expected, weights = theirs(x, attention_mask=mask, position_embeddings=rotations)

    tolerance = {"rtol": 1e-5, "atol": 1e-6}  # transformers computes the softmax in float32
    torch.testing.assert_close(layer(x, context_of(model, positions, trivially_causal=True)), expected, **tolerance)
    output = layer(x, context_of(model, positions, trivially_causal=True, capture=frozenset({"attention"})))
    torch.testing.assert_close(output.captures["attention"], weights, **tolerance)

    state = layer.new_state(2, 11, device="cpu", dtype=torch.float64)
    parts = [
        layer(x[:, a:b], context_of(model, positions[:, a:b], no_past=a == 0), state)
        for a, b in ((0, 4), (4, 9), (9, 10), (10, 11))
    ]
    torch.testing.assert_close(torch.cat(parts, dim=1), expected, **tolerance)


@pytest.mark.parametrize("positional", ["rope", "none", "distance"])
@torch.inference_mode()
def test_the_absorbed_form_equals_the_expanded_form(model_of: Any, context_of: Any, positional: str) -> None:
    model = model_of(attention={"type": "mla", **SIZES}, positional=positional)
    layer, positions = model.blocks[0].attention, torch.arange(9)[None]
    x = torch.randn(2, 9, 24, dtype=torch.float64)
    expanded = layer(x, context_of(model, positions))
    for capture in (frozenset(), frozenset({"attention"})):
        state = layer.new_state(2, 9, device="cpu", dtype=torch.float64)
        absorbed = layer(x, context_of(model, positions, no_past=False, capture=capture), state)
        if capture:
            assert torch.equal(absorbed.captures["k_pos"][:, -9:], positions.expand(2, -1))
            absorbed = absorbed.y
        torch.testing.assert_close(absorbed, expanded)


@pytest.mark.parametrize("positional", ["rope", "none", "distance"])
@torch.inference_mode()
def test_captured_weights_are_a_causal_distribution_and_do_not_change_the_logits(
    model_of: Any, tokens_of: Any, positional: str
) -> None:
    model, tokens = model_of(attention="mla", positional=positional), tokens_of(9)
    auxiliary = gptzoo.AuxiliaryOutputs()
    logits, _ = model(tokens, capture=["attention"], auxiliary=auxiliary)
    torch.testing.assert_close(logits, model(tokens)[0])
    weights = auxiliary.captures["blocks.1.attention.attention"]
    torch.testing.assert_close(weights.sum(-1), torch.ones(2, 4, 9, dtype=torch.float64))
    assert weights.triu(1).abs().max() == 0


@torch.inference_mode()
def test_the_score_bias_is_added_to_the_scores(model_of: Any, context_of: Any) -> None:
    positions, x = torch.arange(6)[None], torch.randn(1, 6, 24, dtype=torch.float64)
    weights = {}
    for positional in ("none", "distance"):
        model = model_of(attention="mla", positional=positional)
        context = context_of(model, positions, trivially_causal=True, capture=frozenset({"attention"}))
        weights[positional] = model.blocks[0].attention(x, context).captures["attention"]
    slopes = torch.arange(1, 5)[:, None, None] / 5
    biased = weights["none"].log() - slopes * (positions[0][:, None] - positions[0]).abs()
    torch.testing.assert_close(weights["distance"], biased.softmax(-1))


def test_only_the_rotated_part_of_the_key_depends_on_the_position_and_heads_share_it(
    model_of: Any, context_of: Any
) -> None:
    model = model_of(attention={"type": "mla", **SIZES})
    layer, x = model.blocks[0].attention, torch.randn(1, 6, 24, dtype=torch.float64)
    states = []
    for shift in (0, 3):
        state = layer.new_state(1, 9, device="cpu", dtype=torch.float64)
        layer(x, context_of(model, torch.arange(6)[None] + shift), state)
        states.append({name: tensor[:, shift : shift + 6] for name, tensor in state.items()})
    assert torch.equal(states[0]["latent"], states[1]["latent"])
    assert not torch.allclose(states[0]["k_rope"], states[1]["k_rope"])
    assert states[0]["k_rope"].shape == (1, 6, 4)


def test_gptzoo_build_reports_the_cache_size_of_the_paper(tmp_path: Path) -> None:
    n_layers, kv_rank, rope_dim = 2, 512, 64  # DeepSeek-V2 with fewer layers
    attention = {"type": "mla", "kv_rank": kv_rank, "q_rank": 1536, "rope_dim": rope_dim, "nope_dim": 128, "v_dim": 128}
    spec = {
        "vocab_size": 128,
        "context_length": 32,
        "d_model": 5120,
        "n_layers": n_layers,
        "n_heads": 128,
        "attention": attention,
        "positional": "rope",
    }
    path = tmp_path / "deepseek.json"
    path.write_text(json.dumps(spec))
    command = [sys.executable, "-m", "gptzoo", "build", str(path), "--dtype", "bf16", "--json"]
    costs = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    assert costs["kv_cache_bytes_per_token"] == 2 * (kv_rank + rope_dim) * n_layers  # (d_c + d_h^R) l, table 1
    assert costs["kv_cache_bytes_per_token"] == 2 * 4.5 * 128 * n_layers  # 9/2 d_h l, from the same table
    assert costs["not_counted"] is None


def test_default_sizes_are_those_of_the_paper_in_head_widths(spec_of: Any) -> None:
    model = gptzoo.build(spec_of(d_model=64, attention="mla"), device="meta")
    states = model.new_states(3, 10, dtype=torch.float32)
    shapes = {name: tuple(tensor.shape[2:]) for name, tensor in states[0]["attention"].items()}
    assert shapes == {"position": (), "latent": (4 * 16,), "k_rope": (16 // 2,)}


def test_decoding_can_roll_back_to_an_earlier_position(model_of: Any, tokens_of: Any) -> None:
    model, tokens, other = model_of(attention={"type": "mla", **SIZES}), tokens_of(12), tokens_of(13)[:, :4]
    assert model.blocks[0].attention.supports_rollback
    positions = torch.arange(12)[None]
    with torch.inference_mode():
        states = model.new_states(2, 12)
        model(tokens, positions=positions, states=states, no_past=True)
        after_rollback, _ = model(other, positions=positions[:, 5:9], states=states)
        expected, _ = model(torch.cat([tokens[:, :5], other], dim=1))
    torch.testing.assert_close(after_rollback, expected[:, 5:])


@torch.inference_mode()
def test_packed_documents_equal_each_document_alone(model_of: Any, tokens_of: Any) -> None:
    model, tokens = model_of(attention={"type": "mla", **SIZES}), tokens_of(12)
    documents = torch.tensor([0] * 5 + [1] * 7).expand(2, -1)
    packed, _ = model(tokens, documents=documents)
    torch.testing.assert_close(packed[:, :5], model(tokens[:, :5])[0])
    torch.testing.assert_close(packed[:, 5:], model(tokens[:, 5:])[0])  # rope depends on distances only


@pytest.mark.parametrize("trivially_causal", [False, True])
@pytest.mark.parametrize("capture", [frozenset(), frozenset({"attention"})])
@torch.inference_mode()
def test_without_causality_and_positions_the_order_of_tokens_does_not_matter(
    model_of: Any, context_of: Any, trivially_causal: bool, capture: frozenset[str]
) -> None:
    model, positions = model_of(attention={"type": "mla", **SIZES}, positional="none"), torch.arange(7)[None]
    layer, x = model.blocks[0].attention, torch.randn(2, 7, 24, dtype=torch.float64)
    y, flipped = (
        layer(inputs, context_of(model, positions, causal=False, trivially_causal=trivially_causal, capture=capture))
        for inputs in (x, x.flip(1))
    )
    y, flipped = (output.y if capture else output for output in (y, flipped))
    torch.testing.assert_close(flipped.flip(1), y)
    assert not torch.allclose(y, layer(x, context_of(model, positions)))


@pytest.mark.parametrize("norm", ["layernorm", {"type": "rmsnorm", "eps": 0.5}], ids=str)
def test_the_norm_of_the_latents_is_an_option(model_of: Any, tokens_of: Any, norm: Any) -> None:
    model = model_of(attention={"type": "mla", "q_rank": 6, "norm": norm}, bias=False)
    with_default_norm = model_of(attention={"type": "mla", "q_rank": 6}, bias=False)
    with_default_norm.load_state_dict(model.state_dict())
    assert not torch.allclose(model(tokens_of(9))[0], with_default_norm(tokens_of(9))[0])


def test_an_odd_rope_dim_is_refused(spec_of: Any) -> None:
    with pytest.raises(
        gptzoo.SpecError, match=r"\$\.attention\.rope_dim: should be even, because channels are rotated in pairs, not 3"
    ):
        gptzoo.load_model_spec(spec_of(attention={"type": "mla", "rope_dim": 3}))


def test_it_declares_the_features_that_it_supports() -> None:
    assert LatentAttention.supports == {"rotate", "bias", "documents", "padding", "noncausal", "capture", "d_head"}
