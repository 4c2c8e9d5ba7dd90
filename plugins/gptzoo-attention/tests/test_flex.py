"""`flex` compared with `naive` with the same weights, and with the closed form of soft-capping."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch
from gptzoo_attention import flex as flex_module
from gptzoo_attention.flex import mask_mod

import gptzoo

CASES: dict[str, dict[str, Any]] = {
    "unmasked": {"trivially_causal": True},
    "window": {"window": 5},
    "bias": {"bias": True},
    "noncausal": {"causal": False},
    "noncausal-window": {"causal": False, "window": 5},
    "padding": {"padding": True, "window": 7},
    "documents": {"documents": True, "bias": True},
}


def context_for(
    case: dict[str, Any], context_of: Any, dims: Any, device: str = "cpu", length: int = 20
) -> gptzoo.ForwardContext:
    positions = torch.arange(length, device=device)[None]
    documents = None
    if case.get("padding"):
        positions = (positions - torch.tensor([[0], [6]], device=device)).clamp(min=-1)
    if case.get("documents"):
        documents = (torch.arange(length, device=device) > length // 3).long().expand(2, -1)
    return context_of(
        positions,
        bias=case.get("bias", False),
        dims=dims,
        causal=case.get("causal", True),
        trivially_causal=case.get("trivially_causal", False),
        documents=documents,
    )


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
@pytest.mark.parametrize(
    ("n_kv_heads", "uncompiled"), [(4, False), (2, False), (2, True)], ids=["", "grouped", "uncompiled-grouped"]
)
@torch.inference_mode()
def test_it_equals_naive_attention_with_the_same_weights(
    case: dict[str, Any], n_kv_heads: int, uncompiled: bool, attention_of: Any, context_of: Any, request: Any
) -> None:
    if uncompiled:
        request.getfixturevalue("uncompiled_flex")
    shared = {"n_kv_heads": n_kv_heads, "window": case.get("window"), "qk_norm": "rmsnorm"}
    flex = attention_of({"type": "flex", **shared})
    naive = attention_of({"type": "naive", **shared})
    flex.load_state_dict(naive.state_dict())
    x = torch.randn(2, 20, 32, generator=torch.Generator().manual_seed(2))
    context = context_for(case, context_of, flex.dims)
    torch.testing.assert_close(flex(x, context), naive(x, context), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("bias", [False, True], ids=["", "bias"])
@pytest.mark.parametrize("uncompiled", [False, True], ids=["dense", "uncompiled"])
@torch.inference_mode()
def test_soft_capped_scores_equal_the_formula(
    bias: bool, uncompiled: bool, attention_of: Any, context_of: Any, request: Any
) -> None:
    if uncompiled:
        request.getfixturevalue("uncompiled_flex")
    module = attention_of({"type": "flex", "softcap": 1.5, "n_kv_heads": 2})
    context = context_for({"bias": bias}, context_of, module.dims, length=7)
    generator = torch.Generator().manual_seed(3)
    q = torch.randn(1, 4, 7, 8, generator=generator)
    k, v = torch.randn(2, 1, 2, 7, 8, generator=generator)
    expected = torch.zeros(1, 4, 7, 8)
    for h in range(4):
        for t in range(7):
            scores = [1.5 * torch.tanh(q[0, h, t] @ k[0, h // 2, s] / 8**0.5 / 1.5) for s in range(t + 1)]
            if bias:  # added after the cap
                scores = [score - torch.linspace(0.1, 1, 4)[h] * (t - s) for s, score in enumerate(scores)]
            expected[0, h, t] = torch.stack(scores).softmax(0) @ v[0, h // 2, : t + 1]
    torch.testing.assert_close(module.attend(q, k, v, context, context.positions)[0], expected, rtol=1e-5, atol=1e-5)
    uncapped = attention_of({"type": "flex", "n_kv_heads": 2}).attend(q, k, v, context, context.positions)[0]
    assert (uncapped - expected).abs().max() > 0.01


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("window", [None, 3])
@pytest.mark.parametrize("case", ["shared", "padding", "cache", "documents"])
def test_mask_mod_equals_the_attention_mask_of_the_context(
    causal: bool, window: int | None, case: str, context_of: Any
) -> None:
    positions = torch.arange(6)[None]
    k_pos, documents = positions, None
    if case == "padding":
        positions = k_pos = torch.tensor([[0, 1, 2, 3, 4, 5], [-1, -1, 0, 1, 2, 3]])
    if case == "cache":  # queries shared by the batch, keys in the order of a ring buffer
        k_pos = torch.tensor([[4, 5, 2, 3, -1], [5, -1, 3, 4, -1]])
    if case == "documents":
        documents = torch.tensor([[0, 0, 0, 1, 1, 1], [0, 1, 1, 1, 2, 2]])
    context = context_of(positions, causal=causal, documents=documents)
    is_unmasked = mask_mod(context, k_pos, window)
    expected = context.attention_mask(k_pos, window).expand(2, 1, -1, -1)
    for b, _, t, s in torch.cartesian_prod(*map(torch.arange, expected.shape)):
        assert is_unmasked(b, 0, t, s) == expected[b, 0, t, s]


@torch.inference_mode()
def test_layers_share_a_block_mask_until_the_forward_pass_ends(
    uncompiled_flex: None, model_of: Any, tokens: torch.Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = model_of(["flex", {"type": "flex", "window": 5}], n_layers=4)
    windows = []
    new_block_mask = flex_module._new_block_mask

    def count(context: gptzoo.ForwardContext, k_pos: torch.Tensor, window: int | None) -> Any:
        windows.append(window)
        return new_block_mask(context, k_pos, window)

    monkeypatch.setattr(flex_module, "_new_block_mask", count)
    model(tokens)
    assert windows == [None, 5]
    assert len(flex_module._block_masks) == 0


@torch.inference_mode()
def test_changing_positions_in_place_changes_the_mask(
    uncompiled_flex: None, model_of: Any, tokens: torch.Tensor
) -> None:
    model = model_of("flex")
    positions = torch.arange(30).expand(2, -1).clone()
    unpadded, _ = model(tokens, positions=positions)
    positions[:, :4] = -1
    padded, _ = model(tokens, positions=positions)
    torch.testing.assert_close(padded[:, 4:], model(tokens[:, 4:])[0], rtol=1e-4, atol=1e-4)
    assert not torch.allclose(padded[:, 4:], unpadded[:, 4:], atol=1e-2)


def test_training_on_a_cpu_warns_once_about_dense_attention(model_of: Any, tokens: torch.Tensor) -> None:
    model = model_of("flex")
    flex_module._warn_about_dense_attention.cache_clear()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model(tokens)
        gptzoo.build(model.spec, device="meta").train()(tokens.to("meta"))
        assert not caught
        model.train()
        model(tokens)
        model(tokens)
    (warning,) = caught
    assert "needs CUDA" in str(warning.message)


@pytest.mark.parametrize(
    "options", [{"attention": "flex", "dropout": 0.1}, {"attention": {"type": "flex", "dropout": 0.1}}]
)
def test_dropout_is_refused_with_a_suggestion(options: dict[str, Any], model_of: Any) -> None:
    spec = {"vocab_size": 13, "context_length": 32, "d_model": 32, "n_layers": 2, "n_heads": 4}
    with pytest.raises(gptzoo.SpecError, match=r"\$\.attention\.dropout: .*set attention\.dropout to 0"):
        gptzoo.load_model_spec({**spec, **options})
    spec = gptzoo.load_model_spec({**spec, "dropout": 0.1, "attention": {"type": "flex", "dropout": 0.0}})
    assert spec.attention.out_dropout == 0.1


def test_a_softcap_of_zero_is_refused() -> None:
    spec = {"context_length": 32, "d_model": 32, "n_layers": 2, "n_heads": 4}
    with pytest.raises(gptzoo.SpecError, match=r"\$\.attention\.softcap"):
        gptzoo.load_model_spec({**spec, "attention": {"type": "flex", "softcap": 0.0}})


# ---------------------------------------------------------------------- on CUDA: pytest -m cuda


@pytest.fixture
def dense_attention_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail a test that uses dense attention, and reset the compiler, whose recompilation limit counts all tests."""

    def refuse(*args: Any, **options: Any) -> None:
        raise AssertionError("dense attention was used")

    monkeypatch.setattr(flex_module, "attention_weights", refuse)
    torch._dynamo.reset()


@pytest.mark.cuda
@pytest.mark.parametrize(
    ("case", "n_kv_heads", "dtype"),
    [
        *((case, 2, torch.float32) for case in CASES.values()),
        (CASES["unmasked"], 4, torch.float32),
        (CASES["unmasked"], 2, torch.bfloat16),
        (CASES["documents"], 4, torch.bfloat16),
    ],
    ids=[*CASES, "not-grouped", "bf16", "bf16-documents"],
)
def test_on_cuda_outputs_and_gradients_equal_sdpa(
    case: dict[str, Any],
    n_kv_heads: int,
    dtype: torch.dtype,
    attention_of: Any,
    context_of: Any,
    dense_attention_fails: None,
) -> None:
    sizes = {"d_model": 256, "context_length": 512}
    shared = {"n_kv_heads": n_kv_heads, "window": case.get("window")}
    flex = attention_of({"type": "flex", **shared}, **sizes).cuda()
    sdpa = attention_of({"type": "sdpa", **shared}, **sizes).cuda()
    sdpa.load_state_dict(flex.state_dict())
    context = context_for(case, context_of, flex.dims, "cuda", length=300)  # not a multiple of the block size
    x = torch.randn(2, 300, 256, generator=torch.Generator().manual_seed(2)).cuda()
    is_token = (context.positions >= 0).expand(2, -1)
    results = []
    for module in (flex, sdpa):
        inputs = x.clone().requires_grad_()
        with torch.autocast("cuda", torch.bfloat16, enabled=module is flex and dtype is torch.bfloat16):
            y = module(inputs, context)
        y[is_token].float().square().sum().backward()
        results.append([y[is_token].float(), inputs.grad, *(p.grad for p in module.parameters())])
    tolerance = 1e-3 if dtype is torch.float32 else 3e-2
    for ours, theirs in zip(*results, strict=True):
        assert (ours - theirs).norm() <= tolerance * theirs.norm() + 1e-6


@pytest.mark.cuda
@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "compiled"])
def test_on_cuda_soft_capping_equals_the_cpu_in_training_and_decoding(
    compiled: bool, model_of: Any, tokens: torch.Tensor
) -> None:
    torch._dynamo.reset()
    options = {"type": "flex", "softcap": 2.0, "n_kv_heads": 2}
    on_cpu = model_of(options, d_model=128)
    model = model_of(options, d_model=128).cuda()
    if compiled:
        for block in model.blocks:
            block.compile(fullgraph=True)
    on_cuda = tokens.cuda()
    expected = on_cpu(tokens)[0].detach()
    model(on_cuda, on_cuda)[1].backward()
    on_cpu(tokens, tokens)[1].backward()
    for ours, theirs in zip(model.parameters(), on_cpu.parameters(), strict=True):
        torch.testing.assert_close(ours.grad.cpu(), theirs.grad, rtol=1e-3, atol=1e-4)
    with torch.inference_mode():
        states = model.new_states(2, 30)
        parts = []
        for chunk in (slice(0, 11), slice(11, 29), slice(29, 30)):
            positions = torch.arange(30, device="cuda")[None, chunk]
            parts.append(model(on_cuda[:, chunk], positions=positions, states=states, no_past=chunk.start == 0)[0])
    torch.testing.assert_close(torch.cat(parts, dim=1).cpu(), expected, rtol=1e-3, atol=1e-3)
