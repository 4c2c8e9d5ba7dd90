"""The three attentions in a model: against closed forms, decoded, padded, packed, and trained."""

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
}
TYPES = (Linear, Retention, GatedDelta)

every = pytest.mark.parametrize("attention", ATTENTIONS.values(), ids=ATTENTIONS.keys())


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Chunks of 3 tokens, so that short texts have several."""
    for component in TYPES:
        monkeypatch.setattr(component, "chunk", 3)


def model_of(attention: Any, dtype: torch.dtype = torch.float64, **changes: Any) -> Any:
    """A tiny model with weights so large that every part shows in the logits."""
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


def tokens_of(n_rows: int, length: int) -> Tensor:
    return torch.randint(13, (n_rows, length), generator=torch.Generator().manual_seed(1))


def close(actual: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(actual, expected, rtol=1e-10, atol=1e-10)


def decode(model: Any, tokens: Tensor, sizes: list[int]) -> Tensor:
    """Logits (B, T, V) of tokens that are fed to empty states piece by piece."""
    states = model.new_states(*tokens.shape)
    parts, first = [], 0
    for size in sizes:
        positions = torch.arange(first, first + size)[None]
        piece = tokens[:, first : first + size]
        parts.append(model(piece, positions=positions, states=states, no_past=first == 0)[0])
        first += size
    return torch.cat(parts, dim=1)


# ---------------------------------------------------------------------- closed forms, one position after the other


def projected(model: Any, x: Tensor) -> tuple[Any, list[Tensor], gptzoo.ForwardContext]:
    """The first attention, the heads (B, H, T, D) of its projection, and a step with rotations."""
    attention, positional = model.blocks[0].attention, model.positionals[0]
    positions = torch.arange(x.shape[1])[None]
    heads = [part.unflatten(-1, (4, 6)).transpose(1, 2) for part in attention.qkv(x).chunk(3, dim=-1)]
    return (
        attention,
        heads,
        gptzoo.ForwardContext(positions, positional, tables=positional.prepare(positions), trivially_causal=True),
    )


def states_of_a_text(length: int = 11) -> Tensor:
    return torch.randn(2, length, 24, generator=torch.Generator().manual_seed(2), dtype=torch.float64)


@pytest.mark.parametrize("positional", ["rope", "none"])
@pytest.mark.usefixtures("small_chunks")
def test_linear_is_a_weighted_mean_of_the_values_so_far(positional: str) -> None:
    x = states_of_a_text()
    attention, (q, k, v), context = projected(model_of("linear", positional=positional), x)

    def phi(x: Tensor) -> Tensor:
        return torch.where(x > 0, x + 1, x.exp())

    turned_q, turned_k = context.rotate(phi(q), phi(k))
    y = torch.zeros_like(v)
    for t in range(x.shape[1]):
        above = sum((turned_q[:, :, t] * turned_k[:, :, s]).sum(-1, keepdim=True) * v[:, :, s] for s in range(t + 1))
        below = sum((phi(q)[:, :, t] * phi(k)[:, :, s]).sum(-1, keepdim=True) for s in range(t + 1))
        y[:, :, t] = above / (below + 1e-6)
    close(attention(x, context), attention.out(y.transpose(1, 2).flatten(2)))


@pytest.mark.parametrize("positional", ["rope", "none"])
@pytest.mark.usefixtures("small_chunks")
def test_retention_is_the_papers_parallel_form(positional: str) -> None:
    x = states_of_a_text()
    attention, (q, k, v), context = projected(model_of("retention", positional=positional), x)
    q, k = context.rotate(q, k)
    distance = torch.arange(11)[:, None] - torch.arange(11)
    y = []
    for head in range(4):
        gamma = 1 - 2.0 ** (-5 - head)
        decayed = torch.where(distance >= 0, gamma ** distance.double(), 0.0)
        read = (q[:, head] @ k[:, head].mT / 6**0.5 * decayed) @ v[:, head]
        y.append((read - read.mean(-1, keepdim=True)) / (read.var(-1, correction=0, keepdim=True) + 1e-6).sqrt())
    gate = attention.gate(x)
    close(attention(x, context), attention.out(gate * gate.sigmoid() * torch.cat(y, dim=-1)))


@pytest.mark.parametrize("positional", ["rope", "none"])
@pytest.mark.parametrize("conv_size", [1, 2, 4])
@pytest.mark.usefixtures("small_chunks")
def test_gated_delta_is_the_papers_recurrence(conv_size: int, positional: str) -> None:
    x = states_of_a_text()
    model = model_of({"type": "gated_delta", "conv_size": conv_size}, positional=positional)
    attention, _, context = projected(model, x)
    inputs = attention.qkv(x)
    mixed = torch.zeros_like(inputs)
    for t in range(11):
        for back in range(min(conv_size, t + 1)):
            tap = 1.0 if attention.taps is None else attention.taps[:, 0, conv_size - 1 - back]
            mixed[:, t] += tap * inputs[:, t - back]
    q, k, v = (part.unflatten(-1, (4, 6)).transpose(1, 2) for part in F.silu(mixed).chunk(3, dim=-1))
    q, k = (part / (part.norm(dim=-1, keepdim=True) ** 2 + 1e-6).sqrt() for part in context.rotate(q, k))
    rate = F.softplus(attention.alpha(x) + attention.dt_bias) * attention.A_log.exp()
    alpha, beta = (-rate).exp(), attention.beta(x).sigmoid()  # (B, T, H)

    y = torch.zeros(2, 11, 4, 6, dtype=torch.float64)
    for row in range(2):
        for head in range(4):
            state = torch.zeros(6, 6, dtype=torch.float64)
            for t in range(11):
                key, b = k[row, head, t], beta[row, t, head]
                kept = alpha[row, t, head] * (torch.eye(6, dtype=torch.float64) - b * torch.outer(key, key))
                state = kept @ state + b * torch.outer(key, v[row, head, t])
                y[row, t, head] = q[row, head, t] @ state
    y = y / (y.square().mean(-1, keepdim=True) + 1e-6).sqrt() * attention.norm.weight
    gate = attention.gate(x)
    close(attention(x, context), attention.out(gate * gate.sigmoid() * y.flatten(2)))


def test_gated_delta_is_the_layer_of_qwen3_next_in_values_and_gradients() -> None:
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
        rms_norm_eps=1e-6 / 6,  # it divides queries by sqrt(6), which its norm takes out again but for this
        layer_types=["linear_attention"],
    )
    theirs = qwen.Qwen3NextGatedDeltaNet(config, layer_idx=0)
    model = model_of("gated_delta", dtype=torch.float32, positional="none", bias=False)
    x = states_of_a_text(70).float()
    ours, _, context = projected(model, x)
    by_head = [weight.unflatten(0, (4, 6)) for weight in (*ours.qkv.weight.chunk(3), ours.gate.weight)]
    with torch.no_grad():
        theirs.in_proj_qkvz.weight.copy_(torch.cat(by_head, dim=1).flatten(0, 1))
        theirs.in_proj_ba.weight.copy_(torch.stack([ours.beta.weight, ours.alpha.weight], dim=1).flatten(0, 1))
        for own, other in (
            (ours.taps, theirs.conv1d.weight),
            (ours.A_log, theirs.A_log),
            (ours.dt_bias, theirs.dt_bias),
            (ours.norm.weight, theirs.norm.weight),
            (ours.out.weight, theirs.out_proj.weight),
        ):
            other.copy_(own)
    torch.testing.assert_close(ours(x, context), theirs(x), rtol=1e-4, atol=1e-5)
    for layer in (lambda: ours(x, context), lambda: theirs(x)):
        layer().square().sum().backward()
    for own, other in ((ours.taps, theirs.conv1d.weight), (ours.A_log, theirs.A_log), (ours.dt_bias, theirs.dt_bias)):
        torch.testing.assert_close(own.grad, other.grad, rtol=1e-3, atol=1e-3)


# ---------------------------------------------------------------------- states


@every
@pytest.mark.usefixtures("small_chunks")
@torch.inference_mode()
def test_cached_decoding_equals_the_full_forward_at_every_split(attention: Any) -> None:
    model, tokens = model_of(attention), tokens_of(2, 10)
    full, _ = model(tokens)
    splits = [[split, 10 - split] for split in range(1, 10)]
    for sizes in ([1] * 10, [2, 1, 1, 4, 1, 1], [3, 3, 3, 1], [4, 6], [1, 2, 7], *splits):
        close(decode(model, tokens, sizes), full)


@every
@torch.inference_mode()
def test_long_texts_in_chunks_of_the_size_in_use_equal_token_by_token(attention: Any) -> None:
    model, tokens = model_of(attention), tokens_of(1, 150)
    full, _ = model(tokens)
    close(decode(model, tokens, [1] * 150), full)
    close(decode(model, tokens, [70, 1, 64, 15]), full)


@every
def test_a_state_takes_the_same_memory_for_ten_tokens_and_for_ten_thousand(attention: Any) -> None:
    model = model_of(attention)

    def n_bytes(max_length: int) -> int:
        states = (state for layer in model.new_states(1, max_length) for state in layer.values())
        return sum(tensor.nbytes for state in states for tensor in state.values())

    assert n_bytes(10) == n_bytes(10_000) > 0


@every
@torch.inference_mode()
def test_states_are_float32_at_least_and_updated_in_place(attention: Any) -> None:
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


@every
@pytest.mark.usefixtures("small_chunks")
@torch.inference_mode()
def test_rows_of_a_state_can_be_reordered_and_cloned(attention: Any) -> None:
    model, tokens, rows = model_of(attention), tokens_of(3, 9), torch.tensor([2, 0, 0, 1])
    states = model.new_states(3, 9)
    model(tokens[:, :5], states=states, no_past=True)
    beams = [{"attention": {name: x[rows] for name, x in layer["attention"].items()}} for layer in states]
    later = tokens[rows, 5:].roll(1, dims=0)
    continued, _ = model(later, positions=torch.arange(5, 9)[None], states=beams)
    close(continued, model(torch.cat([tokens[rows, :5], later], dim=1))[0][:, 5:])


# ---------------------------------------------------------------------- padding and documents


@every
@pytest.mark.usefixtures("small_chunks")
@torch.inference_mode()
def test_padding_anywhere_changes_nothing_for_the_tokens_nor_for_those_to_come(attention: Any) -> None:
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
    filled, _ = model(tokens, positions=positions, states=states, no_past=True)
    steps = [model(later[:, [t]], positions=lengths + t, states=states)[0] for t in range(3)]
    assert full.isfinite().all()
    for row, present in enumerate(positions >= 0):
        text = torch.cat([tokens[row, present], later[row]])
        alone = model(text[None])[0][0]
        close(full[row, present], alone[: lengths[row]])
        close(filled[row, present], alone[: lengths[row]])
        close(torch.cat([logits[row] for logits in steps]), alone[lengths[row] :])


@every
@pytest.mark.usefixtures("small_chunks")
@torch.inference_mode()
def test_a_row_that_rests_goes_on_as_if_nothing_had_been(attention: Any) -> None:
    model, tokens = model_of(attention), tokens_of(2, 7)
    alone, _ = model(tokens)
    states = model.new_states(2, 7)
    model(tokens[:, :4], states=states, no_past=True)
    piece, _ = model(tokens[:, 4:], positions=torch.tensor([[4, 5, 6], [4, -1, -1]]), states=states)
    singles = [model(tokens[:, [p]], positions=torch.tensor([[-1], [p]]), states=states)[0][1] for p in (5, 6)]
    close(piece[0], alone[0, 4:])
    close(torch.cat([piece[1, :1], *singles]), alone[1, 4:])


@every
@pytest.mark.parametrize("lengths", [[4, 1, 7], [3, 3, 6], [1, 1, 1, 9], [11, 1]], ids=str)
@pytest.mark.usefixtures("small_chunks")
@torch.inference_mode()
def test_packed_documents_equal_each_alone_also_with_padding_among_them(attention: Any, lengths: list[int]) -> None:
    model = model_of(attention)
    parts = tokens_of(2, 12).split(lengths, dim=1)
    positions = torch.cat([torch.arange(length) for length in lengths])[None]
    documents = torch.repeat_interleave(torch.arange(len(lengths)), torch.tensor(lengths)).expand(2, -1)
    alone = torch.cat([model(part)[0] for part in parts], dim=1)
    tokens = torch.cat(parts, dim=1)
    close(model(tokens, positions=positions, documents=documents)[0], alone)

    at = torch.tensor([2, 3, 6, 7, 8, 9, 10, 12, 13, 15, 16, 17])  # the other places are padding of no document
    spread = [torch.full((2, 19), value) for value in (0, -1, -1)]
    for whole, values in zip(spread, (tokens, positions.expand(2, -1), documents), strict=True):
        whole[:, at] = values
    padded, _ = model(spread[0], positions=spread[1], documents=spread[2])
    close(padded[:, at], alone)


@every
@pytest.mark.usefixtures("small_chunks")
@torch.inference_mode()
def test_the_state_after_packed_documents_is_that_of_the_last_one(attention: Any) -> None:
    model, tokens = model_of(attention, positional="none"), tokens_of(2, 10)
    states = model.new_states(2, 16)
    documents = torch.tensor([[0] * 5 + [1] * 3, [0] * 7 + [1]])
    model(tokens[:, :8], documents=documents, states=states, no_past=True)
    continued, _ = model(tokens[:, 8:], positions=torch.tensor([[8, 9]]), states=states)
    for row, first in enumerate((5, 7)):
        close(continued[row], model(tokens[[row], first:])[0][0, -2:])


# ---------------------------------------------------------------------- training


@every
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


@every
def test_a_few_steps_of_training_lower_the_loss(attention: Any) -> None:
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


@every
def test_under_bf16_autocast_states_stay_float32_and_logits_near(attention: Any) -> None:
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


@every
def test_a_model_whose_weights_are_bfloat16_runs(attention: Any) -> None:
    model = model_of(attention, dtype=torch.bfloat16)
    with torch.inference_mode():
        assert model(tokens_of(2, 10))[0].isfinite().all()
        assert decode(model, tokens_of(2, 10), [4, 1, 5]).dtype == torch.bfloat16


@pytest.mark.slow
@every
def test_a_block_compiles_to_one_graph_of_equal_loss_and_gradients(attention: Any) -> None:
    model, compiled = (model_of(attention, n_layers=1) for _ in range(2))
    compiled.blocks[0].compile(fullgraph=True, backend="aot_eager")
    tokens = tokens_of(2, 70)
    losses = [each(tokens, tokens.roll(-1, 1))[1] for each in (compiled, model)]
    close(*losses)
    sum(losses).backward()
    for own, expected in zip(compiled.parameters(), model.parameters(), strict=True):
        close(own.grad, expected.grad)


@every
def test_dropout_and_bias_follow_the_model_and_can_be_set_apart(attention: Any) -> None:
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
    still = model_of({**options, "dropout": 0.0}).train()
    assert torch.equal(still(tokens)[0], still(tokens)[0])
    biased, unbiased = (
        set(model_of({**options, "bias": bias}).blocks[0].attention.state_dict()) for bias in (True, False)
    )
    assert {"qkv.bias", "out.bias"} <= biased
    assert not [name for name in unbiased if name.endswith(".bias")]


# ---------------------------------------------------------------------- initial values and rules


def test_gated_delta_starts_with_heads_that_forget_in_one_to_a_thousand_tokens() -> None:
    model = gptzoo.build({**SMALL, "attention": "gated_delta", "d_model": 256, "n_heads": 128, "n_layers": 1})
    attention = model.blocks[0].attention
    rate = F.softplus(attention.dt_bias)
    assert 0.001 <= rate.min() < 0.002 < 0.05 < rate.max() <= 0.1001
    assert 1 <= attention.A_log.exp().min() < 3 < 14 < attention.A_log.exp().max() <= 16
    assert 0.45 < attention.taps.abs().max() <= 0.5


@every
def test_it_builds_on_the_meta_device(attention: Any) -> None:
    model = gptzoo.build({**SMALL, "attention": attention}, device="meta")
    assert all(parameter.is_meta for parameter in model.parameters())
    logits, _ = model(torch.zeros(1, 9, dtype=torch.int64, device="meta"))
    assert logits.shape == (1, 9, 13)


@pytest.mark.parametrize("component", TYPES)
def test_it_promises_what_these_tests_show_and_no_more(component: Any) -> None:
    assert component.supports == {"rotate", "documents", "padding"}
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
            r"\$\.attention: normalises each head, so d_model / n_heads must be at least 2",
        ),
        ({"attention": {"type": "linear", "chunk": 32}}, r"\$\.attention\.chunk: 'linear' has no option 'chunk'"),
    ],
    ids=str,
)
def test_what_cannot_work_is_refused_with_its_place(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(gptzoo.SpecError, match=message):
        gptzoo.load_model_spec({**SMALL, **changes})


def test_every_spec_of_the_readme_can_be_built() -> None:
    readme = (Path(__file__).parents[1] / "README.md").read_text()
    specs = re.findall(r"```json\n(.*?)```", readme, flags=re.DOTALL)
    assert len(specs) >= len(TYPES)
    for spec in specs:
        gptzoo.build({**SMALL, **json.loads(spec)})


def test_the_installed_package_announces_them() -> None:
    (entry,) = importlib.metadata.entry_points(group="gptzoo", name="recurrent")
    assert entry.load() is gptzoo_recurrent
    registered = gptzoo.registered("attention")
    assert all(registered[component.name] is component for component in TYPES)


def test_it_uses_nothing_of_gptzoo_but_public_names() -> None:
    files = list(Path(gptzoo_recurrent.__file__).parent.glob("*.py"))
    source = "\n".join(file.read_text() for file in files)
    used = set(re.findall(r"\bgptzoo\.(\w+)", source))
    assert "Attention" in used
    assert used <= set(gptzoo.__all__)
    assert not re.search(r"from gptzoo\b", source)
