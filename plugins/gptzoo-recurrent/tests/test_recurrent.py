"""The three recurrent attentions: compared with closed forms, and in a model with a cache, padding and documents."""

from __future__ import annotations

import importlib.metadata
import json
import re
from pathlib import Path
from typing import Any

import gptzoo_recurrent
import pytest
import torch
from gptzoo_recurrent import GatedDelta, Linear, Retention
from torch import Tensor
from torch.nn import functional as F

import gptzoo

SMALL: dict[str, Any] = {
    "vocab_size": 13,
    "context_length": 16,
    "d_model": 24,
    "n_layers": 2,
    "n_heads": 4,
    "positional": "rope",
}
ATTENTIONS: dict[str, Any] = {
    "linear": "linear",
    "retention": "retention",
    "gated_delta": "gated_delta",
    "no_convolution": {"type": "gated_delta", "conv_size": 1},
    "negative_eigenvalues": {"type": "gated_delta", "beta_max": 2.0},
}
TYPES = (Linear, Retention, GatedDelta)

every_attention = pytest.mark.parametrize("attention", ATTENTIONS.values(), ids=ATTENTIONS.keys())


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Use chunks of 3 tokens, so that short sequences have several."""
    for component in TYPES:
        monkeypatch.setattr(component, "chunk_size", 3)


def model_of(attention: Any, dtype: torch.dtype = torch.float64, **changes: Any) -> Any:
    """Build a tiny model with weights so large that every parameter affects the logits."""
    model = gptzoo.build({**SMALL, "attention": attention, **changes}).eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            if parameter.ndim > 1:
                parameter.copy_(noise * parameter.shape[-1] ** -0.5)
            elif not name.endswith(("A_log", "dt_bias")):
                parameter.copy_(float(name.endswith("weight")) + 0.3 * noise)
    return model.to(dtype)


def tokens_of(batch_size: int, length: int) -> Tensor:
    return torch.randint(13, (batch_size, length), generator=torch.Generator().manual_seed(1))


def close(actual: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(actual, expected, rtol=1e-10, atol=1e-10)


def decode(model: Any, tokens: Tensor, sizes: list[int]) -> Tensor:
    """Return the logits (B, T, V) of tokens that are passed in chunks of these sizes."""
    states = model.new_states(*tokens.shape)
    parts, first = [], 0
    for size in sizes:
        positions = torch.arange(first, first + size)[None]
        chunk = tokens[:, first : first + size]
        parts.append(model(chunk, positions=positions, states=states, no_past=first == 0)[0])
        first += size
    return torch.cat(parts, dim=1)


# ---------------------------------------------------------------------- closed forms, position by position


def project(model: Any, x: Tensor) -> tuple[Any, list[Tensor], gptzoo.ForwardContext]:
    """Return the first attention, its projected heads (B, H, T, D), and a forward context with rotations."""
    attention, positional = model.blocks[0].attention, model.positionals[0]
    positions = torch.arange(x.shape[1])[None]
    heads = [part.unflatten(-1, (4, -1)).transpose(1, 2) for part in attention.qkv(x).chunk(3, dim=-1)]
    return (
        attention,
        heads,
        gptzoo.ForwardContext(positions, positional, tables=positional.prepare(positions), trivially_causal=True),
    )


def hidden_states(length: int = 11) -> Tensor:
    return torch.randn(2, length, 24, generator=torch.Generator().manual_seed(2), dtype=torch.float64)


@pytest.mark.parametrize("positional", ["rope", "none"])
@pytest.mark.usefixtures("small_chunks")
def test_linear_attention_equals_a_weighted_mean_of_past_values(positional: str) -> None:
    x = hidden_states()
    attention, (q, k, v), context = project(model_of("linear", positional=positional), x)

    def phi(x: Tensor) -> Tensor:
        return torch.where(x > 0, x + 1, x.exp())

    rotated_q, rotated_k = context.rotate(phi(q), phi(k))
    y = torch.zeros_like(v)
    for t in range(x.shape[1]):
        numerator = sum(
            (rotated_q[:, :, t] * rotated_k[:, :, s]).sum(-1, keepdim=True) * v[:, :, s] for s in range(t + 1)
        )
        denominator = sum((phi(q)[:, :, t] * phi(k)[:, :, s]).sum(-1, keepdim=True) for s in range(t + 1))
        y[:, :, t] = numerator / (denominator + 1e-6)
    close(attention(x, context), attention.out(y.transpose(1, 2).flatten(2)))


@pytest.mark.parametrize("d_head", [6, 10], ids=["default_width", "wide_heads"])
@pytest.mark.parametrize("positional", ["rope", "none"])
@pytest.mark.usefixtures("small_chunks")
def test_retention_equals_the_parallel_form_of_the_paper(positional: str, d_head: int) -> None:
    x = hidden_states()
    attention, (q, k, v), context = project(model_of("retention", positional=positional, d_head=d_head), x)
    q, k = context.rotate(q, k)
    distance = torch.arange(11)[:, None] - torch.arange(11)
    y = []
    for head in range(4):
        gamma = 1 - 2.0 ** (-5 - head)
        decayed = torch.where(distance >= 0, gamma ** distance.double(), 0.0)
        output = (q[:, head] @ k[:, head].mT / d_head**0.5 * decayed) @ v[:, head]
        y.append((output - output.mean(-1, keepdim=True)) / (output.var(-1, correction=0, keepdim=True) + 1e-6).sqrt())
    gate = attention.gate(x)
    close(attention(x, context), attention.out(gate * gate.sigmoid() * torch.cat(y, dim=-1)))


@pytest.mark.parametrize("positional", ["rope", "none"])
@pytest.mark.parametrize(("conv_size", "beta_max"), [(1, 1.0), (2, 2.0), (4, 1.0)])
@pytest.mark.usefixtures("small_chunks")
def test_gated_delta_equals_the_recurrence_of_the_paper(conv_size: int, beta_max: float, positional: str) -> None:
    x = hidden_states()
    attention = {"type": "gated_delta", "conv_size": conv_size, "beta_max": beta_max}
    model = model_of(attention, positional=positional)
    attention, _, context = project(model, x)
    inputs = attention.qkv(x)
    mixed = torch.zeros_like(inputs)
    for t in range(11):
        for lag in range(min(conv_size, t + 1)):
            tap = 1.0 if attention.taps is None else attention.taps[:, 0, conv_size - 1 - lag]
            mixed[:, t] += tap * inputs[:, t - lag]
    q, k, v = (part.unflatten(-1, (4, 6)).transpose(1, 2) for part in F.silu(mixed).chunk(3, dim=-1))
    q, k = (part / (part.norm(dim=-1, keepdim=True) ** 2 + 1e-6).sqrt() for part in context.rotate(q, k))
    rate = F.softplus(attention.alpha(x) + attention.dt_bias) * attention.A_log.exp()
    alpha, beta = (-rate).exp(), beta_max * attention.beta(x).sigmoid()  # (B, T, H)

    y = torch.zeros(2, 11, 4, 6, dtype=torch.float64)
    for row in range(2):
        for head in range(4):
            state = torch.zeros(6, 6, dtype=torch.float64)
            for t in range(11):
                key, b = k[row, head, t], beta[row, t, head]
                transition = alpha[row, t, head] * (torch.eye(6, dtype=torch.float64) - b * torch.outer(key, key))
                state = transition @ state + b * torch.outer(key, v[row, head, t])
                y[row, t, head] = q[row, head, t] @ state
    y = y / (y.square().mean(-1, keepdim=True) + 1e-6).sqrt() * attention.norm.weight
    gate = attention.gate(x)
    close(attention(x, context), attention.out(gate * gate.sigmoid() * y.flatten(2)))


def test_gated_delta_equals_qwen3_next_in_outputs_and_gradients() -> None:
    qwen = pytest.importorskip("transformers.models.qwen3_next.modeling_qwen3_next")
    config = qwen.Qwen3NextConfig(
        hidden_size=24,
        num_hidden_layers=1,
        linear_num_key_heads=4,
        linear_num_value_heads=4,
        linear_key_head_dim=6,
        linear_value_head_dim=6,
        linear_conv_kernel_dim=4,
        hidden_act="silu",
        rms_norm_eps=1e-6 / 6,  # Qwen divides queries by sqrt(6), which its norm removes again except in eps
        layer_types=["linear_attention"],
    )
    theirs = qwen.Qwen3NextGatedDeltaNet(config, layer_idx=0)
    model = model_of("gated_delta", dtype=torch.float32, positional="none", bias=False)
    x = hidden_states(70).float()
    ours, _, context = project(model, x)
    by_head = [weight.unflatten(0, (4, 6)) for weight in (*ours.qkv.weight.chunk(3), ours.gate.weight)]
    with torch.no_grad():
        theirs.in_proj_qkvz.weight.copy_(torch.cat(by_head, dim=1).flatten(0, 1))
        theirs.in_proj_ba.weight.copy_(torch.stack([ours.beta.weight, ours.alpha.weight], dim=1).flatten(0, 1))
        for parameter, their_parameter in (
            (ours.taps, theirs.conv1d.weight),
            (ours.A_log, theirs.A_log),
            (ours.dt_bias, theirs.dt_bias),
            (ours.norm.weight, theirs.norm.weight),
            (ours.out.weight, theirs.out_proj.weight),
        ):
            their_parameter.copy_(parameter)
    torch.testing.assert_close(ours(x, context), theirs(x), rtol=1e-4, atol=1e-5)
    for layer in (lambda: ours(x, context), lambda: theirs(x)):
        layer().square().sum().backward()
    for parameter, their_parameter in (
        (ours.taps, theirs.conv1d.weight),
        (ours.A_log, theirs.A_log),
        (ours.dt_bias, theirs.dt_bias),
    ):
        torch.testing.assert_close(parameter.grad, their_parameter.grad, rtol=1e-3, atol=1e-3)


# ---------------------------------------------------------------------- states


@every_attention
@pytest.mark.usefixtures("small_chunks")
@torch.inference_mode()
def test_cached_decoding_equals_the_full_forward_pass_for_all_chunk_sizes(attention: Any) -> None:
    model, tokens = model_of(attention), tokens_of(2, 10)
    full, _ = model(tokens)
    splits = [[split, 10 - split] for split in range(1, 10)]
    for sizes in ([1] * 10, [2, 1, 1, 4, 1, 1], [3, 3, 3, 1], [4, 6], [1, 2, 7], *splits):
        close(decode(model, tokens, sizes), full)


@every_attention
@torch.inference_mode()
def test_long_sequences_with_the_default_chunk_size_equal_decoding_token_by_token(attention: Any) -> None:
    model, tokens = model_of(attention), tokens_of(1, 150)
    full, _ = model(tokens)
    close(decode(model, tokens, [1] * 150), full)
    close(decode(model, tokens, [70, 1, 64, 15]), full)


@every_attention
def test_the_state_takes_the_same_memory_for_ten_and_for_ten_thousand_tokens(attention: Any) -> None:
    model = model_of(attention)

    def n_bytes(max_length: int) -> int:
        states = (state for layer in model.new_states(1, max_length) for state in layer.values())
        return sum(tensor.nbytes for state in states for tensor in state.values())

    assert n_bytes(10) == n_bytes(10_000) > 0


@every_attention
@torch.inference_mode()
def test_states_are_float32_or_wider_and_updated_in_place(attention: Any) -> None:
    model = model_of(attention, dtype=torch.float32)
    states = model.new_states(2, 8, dtype=torch.bfloat16)
    state = states[0]["attention"]
    assert state["memory"].shape == (2, 4, 6, 6)
    assert {tensor.dtype for tensor in state.values()} == {torch.float32}
    before = {name: (tensor.data_ptr(), tensor.clone()) for name, tensor in state.items()}
    model(tokens_of(2, 5), states=states, no_past=True)
    for name, tensor in state.items():
        assert tensor.data_ptr() == before[name][0]
        assert not torch.equal(tensor, before[name][1]), name


@every_attention
@pytest.mark.usefixtures("small_chunks")
@torch.inference_mode()
def test_slots_of_a_state_can_be_reordered_and_copied(attention: Any) -> None:
    model, tokens, slots = model_of(attention), tokens_of(3, 9), torch.tensor([2, 0, 0, 1])
    states = model.new_states(3, 9)
    model(tokens[:, :5], states=states, no_past=True)
    beams = [{"attention": {name: x[slots] for name, x in layer["attention"].items()}} for layer in states]
    later = tokens[slots, 5:].roll(1, dims=0)
    continued, _ = model(later, positions=torch.arange(5, 9)[None], states=beams)
    close(continued, model(torch.cat([tokens[slots, :5], later], dim=1))[0][:, 5:])


# ---------------------------------------------------------------------- padding and documents


@every_attention
@pytest.mark.usefixtures("small_chunks")
@torch.inference_mode()
def test_padding_anywhere_affects_neither_present_nor_later_tokens(attention: Any) -> None:
    model = model_of(attention)
    positions = torch.tensor(
        [
            [-1, -1, -1, -1, 0, 1, 2, 3],
            [-1, -1, -1, -1, -1, -1, -1, 0],
            [0, -1, -1, 1, -1, 2, 3, -1],
            [0, 1, 2, 3, 4, -1, -1, -1],
            [-1, -1, -1, -1, -1, -1, -1, -1],
        ]
    )
    tokens, later = tokens_of(5, 8), tokens_of(5, 3).flip(1)
    lengths = (positions >= 0).sum(1, keepdim=True)
    states = model.new_states(5, 16)
    full, _ = model(tokens, positions=positions)
    prefilled, _ = model(tokens, positions=positions, states=states, no_past=True)
    decoded = [model(later[:, [t]], positions=lengths + t, states=states)[0] for t in range(3)]
    assert full.isfinite().all()
    for row, present in enumerate(positions >= 0):
        sequence = torch.cat([tokens[row, present], later[row]])
        alone = model(sequence[None])[0][0]
        close(full[row, present], alone[: lengths[row]])
        close(prefilled[row, present], alone[: lengths[row]])
        close(torch.cat([logits[row] for logits in decoded]), alone[lengths[row] :])


@every_attention
@pytest.mark.usefixtures("small_chunks")
@torch.inference_mode()
def test_padding_a_sequence_during_decoding_leaves_its_state_unchanged(attention: Any) -> None:
    model, tokens = model_of(attention), tokens_of(2, 7)
    alone, _ = model(tokens)
    states = model.new_states(2, 7)
    model(tokens[:, :4], states=states, no_past=True)
    chunk, _ = model(tokens[:, 4:], positions=torch.tensor([[4, 5, 6], [4, -1, -1]]), states=states)
    singles = [model(tokens[:, [p]], positions=torch.tensor([[-1], [p]]), states=states)[0][1] for p in (5, 6)]
    close(chunk[0], alone[0, 4:])
    close(torch.cat([chunk[1, :1], *singles]), alone[1, 4:])


@every_attention
@pytest.mark.parametrize("lengths", [[4, 1, 7], [3, 3, 6], [1, 1, 1, 9], [11, 1]], ids=str)
@pytest.mark.usefixtures("small_chunks")
@torch.inference_mode()
def test_packed_documents_equal_each_document_alone_even_with_padding_between(
    attention: Any, lengths: list[int]
) -> None:
    model = model_of(attention)
    parts = tokens_of(2, 12).split(lengths, dim=1)
    positions = torch.cat([torch.arange(length) for length in lengths])[None]
    documents = torch.repeat_interleave(torch.arange(len(lengths)), torch.tensor(lengths)).expand(2, -1)
    alone = torch.cat([model(part)[0] for part in parts], dim=1)
    tokens = torch.cat(parts, dim=1)
    close(model(tokens, positions=positions, documents=documents)[0], alone)

    index = torch.tensor([2, 3, 6, 7, 8, 9, 10, 12, 13, 15, 16, 17])  # all other indices are padding
    padded_inputs = [torch.full((2, 19), value) for value in (0, -1, -1)]
    for padded_input, values in zip(padded_inputs, (tokens, positions.expand(2, -1), documents), strict=True):
        padded_input[:, index] = values
    padded, _ = model(padded_inputs[0], positions=padded_inputs[1], documents=padded_inputs[2])
    close(padded[:, index], alone)


@every_attention
@pytest.mark.usefixtures("small_chunks")
@torch.inference_mode()
def test_the_state_after_packed_documents_belongs_to_the_last_document(attention: Any) -> None:
    model, tokens = model_of(attention, positional="none"), tokens_of(2, 10)
    states = model.new_states(2, 16)
    documents = torch.tensor([[0] * 5 + [1] * 3, [0] * 7 + [1]])
    model(tokens[:, :8], documents=documents, states=states, no_past=True)
    continued, _ = model(tokens[:, 8:], positions=torch.tensor([[8, 9]]), states=states)
    for row, first in enumerate((5, 7)):
        close(continued[row], model(tokens[[row], first:])[0][0, -2:])


# ---------------------------------------------------------------------- training


@every_attention
@pytest.mark.usefixtures("small_chunks")
def test_gradients_reach_every_parameter_and_are_finite(attention: Any) -> None:
    model, tokens = model_of(attention, positional="learned").train(), tokens_of(3, 10)
    documents = torch.tensor([[0] * 4 + [1] * 6]).expand(3, -1)
    positions = torch.arange(10).expand(3, -1).clone()
    positions[1:, :4] = -1
    for options in ({}, {"documents": documents}, {"positions": positions}):
        model.zero_grad()
        _, loss = model(tokens, tokens.roll(-1, 1), **options)
        loss.backward()
        for name, parameter in model.named_parameters():
            assert parameter.grad is not None, name
            assert parameter.grad.isfinite().all(), name
            assert parameter.grad.any(), name


@every_attention
def test_a_few_training_steps_lower_the_loss(attention: Any) -> None:
    model = gptzoo.build({**SMALL, "attention": attention}).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    tokens = torch.arange(16)[None].expand(4, -1) % 5  # 0 1 2 3 4 0 1 …
    losses = []
    for _ in range(30):
        _, loss = model(tokens[:, :-1], tokens[:, 1:])
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert losses[-1] < 0.3 * losses[0]


@every_attention
def test_under_bf16_autocast_states_are_float32_and_logits_close_to_float32(attention: Any) -> None:
    model, tokens = model_of(attention, dtype=torch.float32), tokens_of(2, 80)
    states = model.new_states(2, 80)
    with torch.inference_mode():
        expected, _ = model(tokens)
        with torch.autocast("cpu", torch.bfloat16):
            logits, _ = model(tokens, states=states, no_past=True)
    assert {x.dtype for x in states[0]["attention"].values()} == {torch.float32}
    assert (logits.float() - expected).std() < 0.05 * expected.std()
    with torch.autocast("cpu", torch.bfloat16):
        model(tokens, tokens.roll(-1, 1))[1].backward()
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters())


@every_attention
def test_a_bfloat16_model_runs(attention: Any) -> None:
    model = model_of(attention, dtype=torch.bfloat16)
    with torch.inference_mode():
        assert model(tokens_of(2, 10))[0].isfinite().all()
        assert decode(model, tokens_of(2, 10), [4, 1, 5]).dtype == torch.bfloat16


@pytest.mark.slow
@every_attention
def test_a_block_compiles_to_one_graph_with_equal_loss_and_gradients(attention: Any) -> None:
    model, compiled = (model_of(attention, n_layers=1) for _ in range(2))
    compiled.blocks[0].compile(fullgraph=True, backend="aot_eager")
    tokens = tokens_of(2, 70)
    losses = [either(tokens, tokens.roll(-1, 1))[1] for either in (compiled, model)]
    close(*losses)
    sum(losses).backward()
    for actual, expected in zip(compiled.parameters(), model.parameters(), strict=True):
        close(actual.grad, expected.grad)


@every_attention
def test_dropout_and_bias_default_to_those_of_the_model(attention: Any) -> None:
    options = {"type": attention} if isinstance(attention, str) else attention
    model = model_of(
        options,
        dropout=0.5,
        ffn={"type": "mlp", "dropout": 0.0},
        architecture={"type": "decoder", "embed_dropout": 0.0},
    )
    tokens = tokens_of(2, 8)
    model.train()
    assert not torch.equal(model(tokens)[0], model(tokens)[0])
    without_dropout = model_of({**options, "dropout": 0.0}).train()
    assert torch.equal(without_dropout(tokens)[0], without_dropout(tokens)[0])
    biased, unbiased = (
        set(model_of({**options, "bias": bias}).blocks[0].attention.state_dict()) for bias in (True, False)
    )
    assert {"qkv.bias", "out.bias"} <= biased
    assert not [name for name in unbiased if name.endswith(".bias")]


# ---------------------------------------------------------------------- initial values and options


def test_initial_decay_of_gated_delta_spans_one_to_a_thousand_tokens() -> None:
    model = gptzoo.build({**SMALL, "attention": "gated_delta", "d_model": 256, "n_heads": 128, "n_layers": 1})
    attention = model.blocks[0].attention
    rate = F.softplus(attention.dt_bias)
    assert 0.001 <= rate.min() < 0.002 < 0.05 < rate.max() <= 0.1001
    assert 1 <= attention.A_log.exp().min() < 3 < 14 < attention.A_log.exp().max() <= 16
    assert 0.45 < attention.taps.abs().max() <= 0.5


@every_attention
def test_it_builds_on_the_meta_device(attention: Any) -> None:
    model = gptzoo.build({**SMALL, "attention": attention}, device="meta")
    assert all(parameter.is_meta for parameter in model.parameters())
    logits, _ = model(torch.zeros(1, 9, dtype=torch.int64, device="meta"))
    assert logits.shape == (1, 9, 13)


@pytest.mark.parametrize("component", TYPES)
def test_it_declares_the_features_that_it_supports(component: Any) -> None:
    assert component.supports == {"rotate", "documents", "padding", "d_head"}
    assert not component.supports_rollback


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"attention": {"type": "linear", "dropout": 1.0}},
            r"\$\.attention\.dropout: should be at least 0 and below 1",
        ),
        ({"attention": {"type": "gated_delta", "dropout": -0.1}}, r"\$\.attention\.dropout: should be at least 0"),
        ({"attention": {"type": "gated_delta", "conv_size": 0}}, r"\$\.attention\.conv_size: should be greater than 0"),
        (
            {"attention": {"type": "gated_delta", "conv_size": 17}},
            r"\$\.attention\.conv_size: 17 is longer than context_length 16",
        ),
        (
            {"attention": "retention", "n_heads": 24, "positional": "none"},
            r"\$\.attention: normalises each head, so the width of a head must be at least 2, got 1",
        ),
        ({"attention": {"type": "linear", "chunk": 32}}, r"\$\.attention\.chunk: 'linear' has no option 'chunk'"),
    ],
    ids=str,
)
def test_invalid_options_are_refused_with_their_location(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(gptzoo.SpecError, match=message):
        gptzoo.load_model_spec({**SMALL, **changes})


def test_all_specs_in_the_readme_build() -> None:
    readme = (Path(__file__).parents[1] / "README.md").read_text()
    specs = re.findall(r"```json\n(.*?)```", readme, flags=re.DOTALL)
    assert len(specs) >= len(TYPES)
    for spec in specs:
        gptzoo.build({**SMALL, **json.loads(spec)})


def test_the_installed_package_registers_its_components() -> None:
    (entry,) = importlib.metadata.entry_points(group="gptzoo", name="recurrent")
    assert entry.load() is gptzoo_recurrent
    registered = gptzoo.registered("attention")
    assert all(registered[component.name] is component for component in TYPES)
