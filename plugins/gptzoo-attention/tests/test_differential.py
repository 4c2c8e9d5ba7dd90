"""`differential` compared with the pseudo-code of the paper and with DiffLlama in transformers."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

import gptzoo


def softmax(scores: list[float]) -> list[float]:
    exponentials = [math.exp(score - max(scores)) for score in scores]
    return [e / sum(exponentials) for e in exponentials]


def attention_of_the_paper(
    x: Tensor, module: Any, layer: int, n_kv_heads: int, window: int, slopes: Tensor | None
) -> Tensor:
    """Compute the paper's MultiHead (figure 2) query by query, with `layer` counted from 1.

    x is (T, C). The projection of the module holds Q1 of all heads, then Q2 of all heads, and K likewise. It holds the
    left halves of the values of all heads, then the right halves.
    """
    T, C = x.shape
    H, G = 4, n_kv_heads
    d = C // H // 2
    projected = x @ module.qkv.weight.T + module.qkv.bias
    Q = projected[:, :C].view(T, 2, H, d)  # [:, 0] is Q1 of each head
    K = projected[:, C : C + 2 * G * d].view(T, 2, G, d)
    V = projected[:, C + 2 * G * d :].view(T, 2, G, d)
    lambda_init = 0.8 - 0.6 * math.exp(-0.3 * (layer - 1))
    lambda_ = (
        math.exp(sum(a * b for a, b in zip(module.lambda_q1.tolist(), module.lambda_k1.tolist(), strict=True)))
        - math.exp(sum(a * b for a, b in zip(module.lambda_q2.tolist(), module.lambda_k2.tolist(), strict=True)))
        + lambda_init
    )
    heads = torch.zeros(T, H, 2 * d)
    for h in range(H):
        g = h // (H // G)
        for t in range(T):
            attended = range(max(0, t - window + 1), t + 1)
            biases = [0.0 if slopes is None else -slopes[h].item() * (t - s) for s in attended]
            A1 = softmax([(Q[t, 0, h] @ K[s, 0, g] / d**0.5).item() + b for s, b in zip(attended, biases, strict=True)])
            A2 = softmax([(Q[t, 1, h] @ K[s, 1, g] / d**0.5).item() + b for s, b in zip(attended, biases, strict=True)])
            for s, a1, a2 in zip(attended, A1, A2, strict=True):
                heads[t, h] += (a1 - lambda_ * a2) * V[s, :, g].flatten()
            rms = (heads[t, h].square().mean() + 1e-5) ** 0.5
            heads[t, h] = heads[t, h] / rms * module.head_norm.weight * (1 - lambda_init)
    return heads.view(T, C) @ module.out.weight.T + module.out.bias


@pytest.mark.parametrize("capture", [False, True], ids=["fused", "captured"])
@pytest.mark.parametrize("trivially_causal", [True, False], ids=["unmasked", "masked"])
@pytest.mark.parametrize(("n_kv_heads", "window", "bias"), [(4, None, False), (2, 5, False), (2, None, True)])
@torch.inference_mode()
def test_it_equals_the_pseudo_code_of_the_paper(
    n_kv_heads: int,
    window: int | None,
    bias: bool,
    trivially_causal: bool,
    capture: bool,
    model_of: Any,
    context_of: Any,
) -> None:
    model = model_of({"type": "differential", "n_kv_heads": n_kv_heads, "window": window}, n_layers=3)
    x = torch.randn(1, 12, 32, generator=torch.Generator().manual_seed(2))
    for layer, block in enumerate(model.blocks):
        module = block.attention
        for vector in (module.qkv.bias, module.out.bias, module.head_norm.weight):
            vector.normal_(generator=torch.Generator().manual_seed(layer))
        context = context_of(
            torch.arange(12)[None],
            bias=bias,
            dims=module.dims,
            trivially_causal=trivially_causal,
            capture=frozenset({"attention"} if capture else ()),
        )
        y = module(x, context)
        expected = attention_of_the_paper(
            x[0], module, layer + 1, n_kv_heads, window or 12, torch.linspace(0.1, 1, 4) if bias else None
        )
        torch.testing.assert_close((y.y if capture else y)[0], expected, rtol=1e-4, atol=1e-5)


@torch.inference_mode()
def test_it_equals_diffllama_with_the_same_weights(model_of: Any, tokens: Tensor) -> None:
    diffllama = pytest.importorskip("transformers.models.diffllama")
    config = diffllama.DiffLlamaConfig(
        hidden_size=32,
        num_attention_heads=8,  # DiffLlama counts maps, not pairs of maps
        num_key_value_heads=4,
        head_dim=4,
        num_hidden_layers=2,
        rms_norm_eps=1e-5,
        attn_implementation="eager",
    )
    model = model_of({"type": "differential", "n_kv_heads": 2}, bias=False)
    positions = torch.arange(30)[None]
    rotary = diffllama.modeling_diffllama.DiffLlamaRotaryEmbedding(config)
    mask = torch.full((30, 30), float("-inf")).triu(1)[None, None]
    x = torch.randn(2, 30, 32, generator=torch.Generator().manual_seed(2))
    rope = model.positionals[0]
    for layer, block in enumerate(model.blocks):
        ours = block.attention
        theirs = diffllama.modeling_diffllama.DiffLlamaAttention(config, layer).eval()
        q, k, v = ours.qkv.weight.split(ours.widths)
        weights = {"q_proj.weight": q, "k_proj.weight": k, "v_proj.weight": v, "o_proj.weight": ours.out.weight}
        weights |= {name: p for name, p in ours.named_parameters() if name.startswith("lambda")}
        theirs.load_state_dict(weights)
        context = gptzoo.ForwardContext(positions, rope, tables=rope.prepare(positions), trivially_causal=True)
        expected, _ = theirs(x, rotary(x, positions), mask)
        torch.testing.assert_close(ours(x, context), expected, rtol=1e-4, atol=1e-5)


@torch.inference_mode()
def test_captured_weights_sum_to_one_minus_lambda_and_may_be_negative(model_of: Any, context_of: Any) -> None:
    module = model_of("differential").blocks[0].attention
    for name in ("lambda_q1", "lambda_q2"):
        getattr(module, name).zero_()  # lambda is its initial value, 0.2
    context = context_of(torch.arange(12)[None], capture=frozenset({"attention"}))
    weights = module(torch.randn(2, 12, 32), context).captures["attention"]
    torch.testing.assert_close(weights.sum(-1), torch.full((2, 4, 12), 0.8))
    assert (weights < 0).any()


def test_lambda_starts_near_lambda_init_which_grows_with_the_layer() -> None:
    spec = {"vocab_size": 13, "context_length": 16, "d_model": 32, "n_layers": 12, "n_heads": 4}
    model = gptzoo.build({**spec, "attention": "differential"})
    attentions = [block.attention for block in model.blocks]
    expected = [0.8 - 0.6 * math.exp(-0.3 * (layer - 1)) for layer in range(1, 13)]
    assert expected[0] == pytest.approx(0.2)
    assert [a.lambda_init.item() for a in attentions] == pytest.approx(expected)
    assert [a.compute_lambda().item() for a in attentions] == pytest.approx(expected, abs=0.15)
    drawn = torch.cat([getattr(a, name) for a in attentions for name in ("lambda_q1", "lambda_k1", "lambda_q2")])
    assert drawn.std().item() == pytest.approx(0.1, rel=0.2)
    assert not [name for name in model.state_dict() if "lambda_init" in name]


def test_it_has_few_more_parameters_than_plain_attention() -> None:
    spec = {"vocab_size": 13, "context_length": 16, "d_model": 64, "n_layers": 2, "n_heads": 4}
    plain = gptzoo.build({**spec, "attention": "sdpa"}, device="meta")
    ours = gptzoo.build({**spec, "attention": "differential"}, device="meta")
    additional = 4 * 8 + 16  # per layer: four vectors of half a head width, and the weight of the head norm
    assert sum(p.numel() for p in ours.parameters()) == sum(p.numel() for p in plain.parameters()) + 2 * additional
    assert ours.blocks[0].attention.rotary_dim == 8


def test_dropout_is_active_in_training_only(model_of: Any, tokens: Tensor) -> None:
    model = model_of({"type": "differential", "dropout": 0.5, "out_dropout": 0.0})
    plain = model_of("differential")
    torch.testing.assert_close(model(tokens)[0], plain(tokens)[0])
    assert not torch.allclose(model.train()(tokens)[0], plain(tokens)[0], atol=1e-2)
    torch.testing.assert_close(plain.train()(tokens)[0], plain.eval()(tokens)[0])


def test_a_head_width_that_is_not_divisible_by_four_is_refused() -> None:
    spec = {"context_length": 32, "d_model": 24, "n_layers": 2, "n_heads": 4}
    with pytest.raises(gptzoo.SpecError, match=r"\$\.attention: .*must be divisible by 4, got 6"):
        gptzoo.load_model_spec({**spec, "attention": "differential"})


def test_under_mup_scores_grow_from_the_default_scale_of_half_a_head() -> None:
    spec = {"vocab_size": 13, "context_length": 32, "d_model": 64, "n_layers": 1, "n_heads": 4}
    mup = {"type": "mup", "base": {"d_model": 32, "n_heads": 4}}  # heads of width 8 at the base, 16 in the model

    def model(**scale: float) -> Any:
        return gptzoo.build(
            {**spec, "attention": {"type": "differential", **scale}, "parametrisation": mup, "positional": "rope"}
        ).eval()

    tokens = torch.arange(12)[None]
    assert model().spec.with_multipliers().attention.scale == pytest.approx(4**-0.5 * 8 / 16)
    assert model()(tokens)[0].equal(model(scale=4**-0.5)(tokens)[0])


def test_the_default_scale_is_that_of_half_a_head() -> None:
    spec = {"vocab_size": 13, "context_length": 32, "d_model": 32, "n_layers": 1, "n_heads": 4}

    def canonical_scale(scale: float) -> float | None:
        config = gptzoo.load_model_spec({**spec, "attention": {"type": "differential", "scale": scale}}).attention
        return config.canonical(gptzoo.Dims(13, 32, 32, 1, 4)).scale

    assert canonical_scale(4**-0.5) is None
    assert canonical_scale(8**-0.5) == 8**-0.5
