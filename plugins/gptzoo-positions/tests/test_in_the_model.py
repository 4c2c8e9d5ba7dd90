"""Every positional of this package in a model: with a cache, padding, packed documents and training."""

from __future__ import annotations

import importlib.metadata
import json
import re
from pathlib import Path
from typing import Any

import gptzoo_positions
import pytest
import torch
from torch import Tensor

import gptzoo

SMALL: dict[str, Any] = {"vocab_size": 13, "context_length": 16, "d_model": 32, "n_layers": 2, "n_heads": 4}

# Options are small enough to take effect within a few tokens.
POSITIONALS: dict[str, dict[str, Any]] = {
    "t5": {"type": "t5", "n_buckets": 6, "max_distance": 10},
    "t5-both-ways": {"type": "t5", "n_buckets": 12, "max_distance": 10, "bidirectional": True},
    "kerple": {"type": "kerple"},
    "fire": {"type": "fire", "threshold": 6.0},
    "partial": {"type": "scaled_rope", "fraction": 0.5, "theta": 50.0},
    "linear": {"type": "scaled_rope", "scaling": {"type": "linear", "factor": 2}},
    "ntk": {"type": "scaled_rope", "scaling": {"type": "ntk", "factor": 2}},
    "yarn": {"type": "scaled_rope", "theta": 50.0, "scaling": {"type": "yarn", "factor": 2, "beta_fast": 2.0}},
    "llama3": {"type": "scaled_rope", "theta": 50.0, "scaling": {"type": "llama3", "factor": 2}},
    "xpos": {"type": "xpos", "scale_base": 8.0},
}
every_positional = pytest.mark.parametrize("positional", POSITIONALS.values(), ids=POSITIONALS)
LEARNED = [POSITIONALS[name] for name in ("t5", "kerple", "fire")]


def model_of(positional: dict[str, Any], **changes: Any) -> Any:
    """Build a tiny model with weights so large that attention is far from uniform."""
    model = gptzoo.build({**SMALL, "positional": positional, **changes}).eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.normal_(std=parameter.shape[-1] ** -0.5, generator=generator)
    return model


def tokens_of(length: int) -> Tensor:
    return torch.randint(13, (2, length), generator=torch.Generator().manual_seed(1))


@every_positional
@pytest.mark.parametrize("options", [{}, {"n_kv_heads": 2}, {"window": 3}], ids=str)
def test_naive_and_sdpa_agree_in_logits_and_gradients(positional: dict[str, Any], options: dict[str, Any]) -> None:
    naive, sdpa = (model_of(positional, attention={"type": name, **options}) for name in ("naive", "sdpa"))
    tokens = tokens_of(12)
    torch.testing.assert_close(sdpa(tokens)[0], naive(tokens)[0], rtol=1e-4, atol=1e-5)
    for model in (naive, sdpa):
        model(tokens, tokens.roll(-1, 1))[1].backward()
    for ours, theirs in zip(sdpa.parameters(), naive.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-3, atol=1e-5)


@every_positional
@pytest.mark.parametrize("window", [None, 3])
@torch.inference_mode()
def test_cached_decoding_equals_the_full_forward_pass_even_beyond_the_context_length(
    positional: dict[str, Any], window: int | None
) -> None:
    model = model_of(positional, attention={"type": "sdpa", "window": window})
    assert model.max_length is None
    tokens = tokens_of(24)
    full, _ = model(tokens)
    for sizes in ([1] * 24, [7, 17], [5, 1, 1, 4, 13]):
        states = model.new_states(2, 24)
        parts, first = [], 0
        for size in sizes:
            positions = torch.arange(first, first + size)[None]
            chunk = tokens[:, first : first + size]
            parts.append(model(chunk, positions=positions, states=states, no_past=first == 0)[0])
            first += size
        torch.testing.assert_close(torch.cat(parts, dim=1), full, rtol=1e-4, atol=1e-5)


@every_positional
@torch.inference_mode()
def test_left_padded_sequences_equal_each_sequence_alone_with_and_without_cache(positional: dict[str, Any]) -> None:
    model = model_of(positional)
    tokens = tokens_of(10)
    positions = torch.stack([torch.arange(10), torch.arange(-3, 7).clamp(min=-1)])
    alone = model(tokens[:1])[0], model(tokens[1:, 3:])[0]
    padded, _ = model(tokens, positions=positions)
    states = model.new_states(2, 10)
    chunks = [
        model(tokens[:, chunk], positions=positions[:, chunk], states=states, no_past=chunk.start == 0)[0]
        for chunk in (slice(0, 4), slice(4, 9), slice(9, 10))
    ]
    for logits in (padded, torch.cat(chunks, dim=1)):
        torch.testing.assert_close(logits[:1], alone[0], rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(logits[1:, 3:], alone[1], rtol=1e-4, atol=1e-5)


@every_positional
@torch.inference_mode()
def test_packed_documents_equal_each_document_alone(positional: dict[str, Any]) -> None:
    model = model_of(positional)
    tokens = tokens_of(12)
    positions = torch.cat([torch.arange(5), torch.arange(7)])[None]
    documents = torch.tensor([0] * 5 + [1] * 7).expand(2, -1)
    packed, _ = model(tokens, positions=positions, documents=documents)
    alone = torch.cat([model(tokens[:, :5])[0], model(tokens[:, 5:])[0]], dim=1)
    torch.testing.assert_close(packed, alone, rtol=1e-4, atol=1e-5)


@every_positional
def test_order_matters(positional: dict[str, Any]) -> None:
    model = model_of(positional, n_layers=1)
    tokens = torch.arange(8)[None]
    shuffled = tokens[:, [2, 0, 1, 4, 3, 6, 5, 7]]
    assert not torch.allclose(model(tokens)[0][:, -1], model(shuffled)[0][:, -1], atol=1e-2)


@pytest.mark.parametrize("name", [name for name in POSITIONALS if name != "fire"])
def test_logits_depend_on_distances_and_not_on_the_first_position(name: str) -> None:
    model = model_of(POSITIONALS[name])
    tokens = tokens_of(8)
    moved, _ = model(tokens, positions=torch.arange(8)[None] + 100)
    torch.testing.assert_close(moved, model(tokens)[0], rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("positional", LEARNED, ids=lambda positional: positional["type"])
def test_gradients_reach_every_parameter_with_padding(positional: dict[str, Any]) -> None:
    model = model_of(positional)
    positions = torch.stack([torch.arange(16), torch.arange(-4, 12).clamp(min=-1)])
    tokens = tokens_of(16)
    targets = tokens.roll(-1, 1).masked_fill(positions < 0, -100)
    model(tokens, targets, positions=positions)[1].backward()
    for name, parameter in model.positionals[0].named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        nonzero = (parameter.grad != 0).float().mean()
        assert nonzero > (0.3 if positional["type"] == "fire" else 0.99), name  # some ReLUs of FIRE are inactive


@pytest.mark.parametrize("positional", LEARNED, ids=lambda positional: positional["type"])
def test_the_bias_of_padding_and_its_gradient_are_finite(positional: dict[str, Any]) -> None:
    module = model_of(positional).positionals[0]
    q_pos, k_pos = torch.tensor([[-1, 0, 3]]), torch.tensor([[-1, -1, 0, 3, 9]])
    bias = module.bias(q_pos, k_pos)
    assert bias.shape == (1, 4, 3, 5)
    assert bias.isfinite().all()
    bias.sum().backward()
    assert all(parameter.grad.isfinite().all() for parameter in module.parameters())


@pytest.mark.parametrize("positional", LEARNED, ids=lambda positional: positional["type"])
def test_positions_may_differ_between_sequences(positional: dict[str, Any]) -> None:
    module = model_of(positional).positionals[0]
    q_pos, k_pos = torch.tensor([[15], [2]]), torch.tensor([[0, 1], [0, 2]])
    separate = torch.cat([module.bias(q_pos[[row]], k_pos[[row]]) for row in range(2)])
    torch.testing.assert_close(module.bias(q_pos, k_pos), separate)


@every_positional
def test_bf16_autocast_is_close_to_float32(positional: dict[str, Any]) -> None:
    model = model_of(positional)
    tokens = tokens_of(12)
    _, exact = model(tokens, tokens.roll(-1, 1))
    with torch.autocast("cpu", torch.bfloat16):
        _, loss = model(tokens, tokens.roll(-1, 1))
    loss.backward()
    torch.testing.assert_close(loss, exact, rtol=3e-2, atol=3e-2)
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters())


@every_positional
@pytest.mark.parametrize("attention", ["naive", "sdpa"])
@torch.inference_mode()
def test_a_bfloat16_model_is_close_to_float32(positional: dict[str, Any], attention: str) -> None:
    model = model_of(positional, attention=attention)
    exact, _ = model(tokens_of(8))
    logits, _ = model.to(torch.bfloat16)(tokens_of(8))
    assert logits.dtype == torch.bfloat16
    torch.testing.assert_close(logits.float(), exact, rtol=0.2, atol=0.3)


@every_positional
def test_it_builds_on_the_meta_device(positional: dict[str, Any]) -> None:
    model = gptzoo.build({**SMALL, "positional": positional}, device="meta")
    assert all(tensor.is_meta for tensor in (*model.parameters(), *model.buffers()))
    assert model(torch.zeros(2, 8, dtype=torch.long, device="meta"))[0].shape == (2, 8, 13)


@pytest.mark.parametrize("positional", LEARNED, ids=lambda positional: positional["type"])
def test_initial_values_depend_on_the_seed_only(positional: dict[str, Any]) -> None:
    first, same, other = (
        gptzoo.build({**SMALL, "positional": positional}, seed=seed).positionals[0].state_dict() for seed in (1, 1, 2)
    )
    assert all(torch.equal(first[name], same[name]) for name in first)
    drawn = [name for name in first if name not in ("c", "threshold")]
    assert not any(torch.equal(first[name], other[name]) for name in drawn)


@every_positional
def test_a_few_training_steps_lower_the_loss(positional: dict[str, Any]) -> None:
    model = gptzoo.build({**SMALL, "positional": positional}).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    tokens = torch.arange(16)[None].expand(4, -1) % 5  # 0 1 2 3 4 0 1 …
    losses = []
    for _ in range(30):
        _, loss = model(tokens[:, :-1], tokens[:, 1:])
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert losses[-1] < 0.2 * losses[0]


@pytest.mark.parametrize("name", ["t5", "fire"])  # KERPLE always decreases with distance
def test_a_model_learns_to_copy_from_a_fixed_distance(name: str) -> None:
    model = gptzoo.build({**SMALL, "positional": POSITIONALS[name], "n_layers": 1}).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-2)
    generator = torch.Generator().manual_seed(0)
    before = [parameter.clone() for parameter in model.positionals[0].parameters()]
    for _ in range(60):
        tokens = torch.randint(13, (32, 16), generator=generator)
        targets = tokens.roll(3, 1).index_fill(1, torch.arange(3), -100)  # the token three back
        _, loss = model(tokens, targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 1.3  # chance is ln 13 = 2.56
    after = model.positionals[0].parameters()
    assert all(not torch.equal(old, new) for old, new in zip(before, after, strict=True))


def test_they_require_only_the_features_that_they_use() -> None:
    known = gptzoo.registered("positional")
    assert all(known[name].requires == {"bias"} for name in ("t5", "kerple", "fire"))
    assert all(known[name].requires == {"rotate"} for name in ("scaled_rope", "xpos"))


def test_the_installed_package_registers_its_components() -> None:
    (entry,) = importlib.metadata.entry_points(group="gptzoo", name="positions")
    assert entry.load() is gptzoo_positions
    for component in gptzoo_positions.gptzoo_components():
        assert gptzoo.registered(component.kind)[component.name] is component


def test_all_specs_in_the_readme_build() -> None:
    readme = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```json\n(.*?)```", readme, re.DOTALL)
    assert len(blocks) >= 4
    for block in blocks:
        gptzoo.build({**SMALL, **json.loads(block)}, device="meta")
