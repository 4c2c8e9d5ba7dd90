"""All three attentions in a model: with a cache, padding, packed documents, captured weights, compiled and trained."""

from __future__ import annotations

import importlib.metadata
from typing import Any

import gptzoo_attention
import pytest
import torch

import gptzoo

ATTENTIONS: dict[str, dict[str, Any]] = {
    "flex": {"type": "flex"},
    "flex-grouped": {"type": "flex", "n_kv_heads": 2, "window": 5, "softcap": 2.0, "qk_norm": "rmsnorm"},
    "block_sparse": {"type": "block_sparse", "block_size": 4, "n_local": 2, "stride": 3},
    "block_sparse-grouped": {"type": "block_sparse", "block_size": 3, "stride": 4, "n_kv_heads": 2},
    "block_sparse-local": {"type": "block_sparse", "block_size": 4, "stride": None, "qk_norm": "layernorm"},
    "flex-sinks": {"type": "flex", "sinks": True, "n_kv_heads": 2},
    "block_sparse-sinks": {"type": "block_sparse", "block_size": 4, "stride": 3, "sinks": True, "softcap": 3.0},
    "differential": {"type": "differential"},
    "differential-grouped": {"type": "differential", "n_kv_heads": 1, "window": 5, "qk_norm": "rmsnorm"},
}
every_attention = pytest.mark.parametrize("attention", ATTENTIONS.values(), ids=ATTENTIONS)


@pytest.fixture
def fused(request: pytest.FixtureRequest) -> bool:
    """Run FlexAttention uncompiled if the parameter is true, and dense attention if it is false."""
    if request.param:
        request.getfixturevalue("uncompiled_flex")
    return request.param


# FlexAttention runs on a CPU in the forward pass only, where it must equal dense attention.
with_uncompiled_flex = pytest.mark.parametrize(
    ("attention", "fused"),
    [
        *((attention, False) for attention in ATTENTIONS.values()),
        pytest.param(ATTENTIONS["flex"], True, marks=pytest.mark.slow),
        (ATTENTIONS["flex-grouped"], True),
    ],
    ids=[*ATTENTIONS, "flex-uncompiled", "flex-uncompiled-grouped"],
    indirect=["fused"],
)


@with_uncompiled_flex
@torch.inference_mode()
def test_cached_decoding_equals_the_full_forward_pass(
    attention: Any, fused: bool, model_of: Any, tokens: torch.Tensor
) -> None:
    model = model_of(attention)
    full, _ = model(tokens)
    for sizes in ([1] * 30, [7, 23], [5, 1, 1, 4, 19]):
        states = model.new_states(2, 30)
        parts, first = [], 0
        for size in sizes:
            positions = torch.arange(first, first + size)[None]
            chunk = tokens[:, first : first + size]
            parts.append(model(chunk, positions=positions, states=states, no_past=first == 0)[0])
            first += size
        torch.testing.assert_close(torch.cat(parts, dim=1), full, rtol=1e-4, atol=1e-4)


@with_uncompiled_flex
@torch.inference_mode()
def test_left_padded_sequences_equal_each_sequence_alone_with_and_without_cache(
    attention: Any, fused: bool, model_of: Any, tokens: torch.Tensor
) -> None:
    model = model_of(attention)
    positions = torch.arange(30).expand(2, -1).clone()
    positions[1] = (positions[1] - 9).clamp(min=-1)  # the second row begins 9 tokens later
    alone = model(tokens[1:, 9:])[0][0]
    torch.testing.assert_close(model(tokens, positions=positions)[0][1, 9:], alone, rtol=1e-4, atol=1e-4)
    states = model.new_states(2, 30)
    parts = [
        model(tokens[:, chunk], positions=positions[:, chunk], states=states, no_past=chunk.start == 0)[0]
        for chunk in (slice(0, 12), slice(12, 29), slice(29, 30))
    ]
    torch.testing.assert_close(torch.cat(parts, dim=1)[1, 9:], alone, rtol=1e-4, atol=1e-4)


@with_uncompiled_flex
@torch.inference_mode()
def test_packed_documents_equal_each_document_alone(
    attention: Any, fused: bool, model_of: Any, tokens: torch.Tensor
) -> None:
    model = model_of(attention)
    documents = (torch.arange(30) >= 13).long().expand(2, -1)
    positions = torch.cat([torch.arange(13), torch.arange(17)]).expand(2, -1)
    packed, _ = model(tokens, positions=positions, documents=documents)
    torch.testing.assert_close(packed[:, :13], model(tokens[:, :13])[0], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(packed[:, 13:], model(tokens[:, 13:])[0], rtol=1e-4, atol=1e-4)


@every_attention
@pytest.mark.parametrize("case", ["unmasked", "bias", "noncausal", "noncausal-unmasked", "padding"])
@torch.inference_mode()
def test_captured_weights_are_consistent_with_the_output(
    attention: Any, case: str, attention_of: Any, context_of: Any
) -> None:
    module = attention_of(attention, positional="none", bias=False)
    positions = torch.arange(30)[None]
    if case == "padding":
        positions = (torch.arange(30).expand(2, -1) - torch.tensor([[0], [4]])).clamp(min=-1)
    options = {
        "causal": not case.startswith("noncausal"),
        "trivially_causal": case in ("unmasked", "noncausal-unmasked", "bias"),
        "bias": case == "bias",
        "dims": module.dims,
    }
    x = torch.randn(2, 30, 32, generator=torch.Generator().manual_seed(2))
    output = module(x, context_of(positions, capture=frozenset({"attention"}), **options))
    weights = output.captures["attention"]
    assert weights.shape == (2, 4, 30, 30)
    assert torch.equal(output.captures["k_pos"], positions)
    is_token = (positions >= 0).expand(2, -1)
    torch.testing.assert_close(
        module(x, context_of(positions, **options))[is_token], output.y[is_token], rtol=1e-4, atol=1e-4
    )
    future = weights.transpose(0, 1)[:, torch.triu(torch.ones(30, 30), 1).bool() & is_token[..., None]]
    assert bool((future == 0).all()) is options["causal"]


@every_attention
def test_gradients_reach_every_parameter(attention: Any, model_of: Any, tokens: torch.Tensor) -> None:
    model = model_of(attention).train()
    model(tokens[:, :-1], tokens[:, 1:])[1].backward()
    assert not [name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]


@every_attention
def test_a_few_training_steps_lower_the_loss(attention: Any) -> None:
    torch.manual_seed(0)
    dropout = 0.0 if attention["type"] == "flex" else 0.1
    spec = {"vocab_size": 13, "context_length": 32, "d_model": 32, "n_layers": 2, "n_heads": 4, "positional": "rope"}
    model = gptzoo.build({**spec, "attention": {**attention, "dropout": dropout}}).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    cycle = torch.arange(31)[None].expand(4, -1) % 5  # 0 1 2 3 4 0 1 …
    losses = []
    for _ in range(30):
        _, loss = model(cycle[:, :-1], cycle[:, 1:])
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert losses[-1] < 0.2 * losses[0]


@every_attention
def test_bf16_autocast_is_close_to_float32(attention: Any, model_of: Any, tokens: torch.Tensor) -> None:
    model = model_of(attention)
    exact, _ = model(tokens)
    with torch.autocast("cpu", torch.bfloat16):
        logits, _ = model(tokens)
        model(tokens, tokens)[1].backward()
    assert (logits - exact).norm() < 0.05 * exact.norm()


@pytest.mark.parametrize(
    "attention", [ATTENTIONS[f"{name}-grouped"] for name in ("flex", "block_sparse", "differential")]
)
def test_equal_blocks_share_one_compiled_graph_without_breaks(
    attention: Any, model_of: Any, tokens: torch.Tensor
) -> None:
    torch._dynamo.reset()
    model = model_of(attention, n_layers=3)
    expected, _ = model(tokens)
    graphs = []

    def count(graph: Any, inputs: Any) -> Any:
        graphs.append(graph)
        return graph

    for block in model.blocks:
        block.compile(backend=count, fullgraph=True)
    torch.testing.assert_close(model(tokens)[0], expected, rtol=1e-4, atol=1e-4)
    assert len(graphs) == 1
    model.train()(tokens, tokens)[1].backward()
    assert len(graphs) == 2
    torch._dynamo.reset()


@every_attention
def test_it_builds_on_the_meta_device_and_caches_one_entry_per_position(attention: Any) -> None:
    spec = {"vocab_size": 13, "context_length": 32, "d_model": 32, "n_layers": 2, "n_heads": 4, "positional": "rope"}
    model = gptzoo.build({**spec, "attention": attention}, device="meta")
    assert all(tensor.is_meta for tensor in (*model.parameters(), *model.buffers()))
    assert model(torch.zeros(1, 32, dtype=torch.int64, device="meta"))[0].shape == (1, 32, 13)
    state = model.blocks[0].attention.new_state(3, 32, device="meta", dtype=torch.bfloat16)
    per_position = sum(tensor[0, 0].numel() for tensor in state.values() if tensor.is_floating_point())
    assert per_position == 2 * 32 * attention.get("n_kv_heads", 4) // 4
    caches_all = attention.get("window") is None and attention.get("stride", 1) is not None
    assert model.blocks[0].attention.supports_rollback is caches_all
    assert (state["position"].shape[1] > 32) is caches_all


@every_attention
def test_parameters_have_the_shapes_of_plain_attention(attention: Any, model_of: Any) -> None:
    shared = {name: option for name, option in attention.items() if name in ("n_kv_heads",)}
    plain = model_of({"type": "sdpa", **shared}).blocks[0].attention
    ours = model_of(attention).blocks[0].attention
    assert ours.qkv.weight.shape == plain.qkv.weight.shape
    assert ours.out.weight.shape == plain.out.weight.shape
    assert ours.out.writes_residual


@every_attention
def test_options_survive_a_round_trip(attention: Any, model_of: Any) -> None:
    spec = model_of(attention).spec
    assert gptzoo.load_model_spec(spec.resolved()) == spec


def test_the_installed_package_registers_its_components() -> None:
    (entry,) = importlib.metadata.entry_points(group="gptzoo", name="attention")
    assert entry.load() is gptzoo_attention
    known = gptzoo.registered("attention")
    for component in gptzoo_attention.gptzoo_components():
        assert known[component.name] is component
        assert component.supports == {"rotate", "bias", "documents", "padding", "noncausal", "capture", "d_head"}
