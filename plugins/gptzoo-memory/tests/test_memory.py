"""Both attentions in a model: with a cache, padding, autocast, compiled and trained."""

from __future__ import annotations

import importlib.metadata
from typing import Any

import gptzoo_memory
import pytest
import torch
from gptzoo_memory import InfiniAttention, LatentAttention
from torch import Tensor

import gptzoo

ATTENTIONS = {
    "mla": {"type": "mla"},
    "mla-odd-sizes": {"type": "mla", "q_rank": 7, "kv_rank": 10, "rope_dim": 4, "nope_dim": 3, "v_dim": 9},
    "infini": {"type": "infini"},
    "infini-delta": {"type": "infini", "segment_length": 5, "update": "delta"},
    "infini-one": {"type": "infini", "segment_length": 1},
}
POSITIONALS = ["rope", "none", "distance", "learned"]
all_attentions = pytest.mark.parametrize("attention", ATTENTIONS.values(), ids=ATTENTIONS.keys())


def decode_in_chunks(
    model: Any, tokens: Tensor, positions: Tensor, sizes: list[int], default_positions_first: bool = False
) -> Tensor:
    """Return the logits of tokens that are passed in chunks of these sizes."""
    states = model.new_states(len(tokens), sum(sizes))
    parts, first = [], 0
    for size in sizes:
        chunk = slice(first, first + size)
        chunk_positions = None if default_positions_first and first == 0 else positions[:, chunk]
        parts.append(model(tokens[:, chunk], positions=chunk_positions, states=states, no_past=first == 0)[0])
        first += size
    return torch.cat(parts, dim=1)


@all_attentions
@pytest.mark.parametrize("positional", POSITIONALS)
@torch.inference_mode()
def test_cached_decoding_equals_the_full_forward_pass_for_all_chunk_sizes(
    model_of: Any, tokens_of: Any, attention: Any, positional: str
) -> None:
    model, tokens, positions = (
        model_of(attention=attention, positional=positional),
        tokens_of(23),
        torch.arange(23)[None],
    )
    full, _ = model(tokens)
    for sizes in ([1] * 23, [1, 22], [22, 1], [12, 11], [5, 1, 1, 4, 9, 3]):
        for default_positions_first in (False, True):
            torch.testing.assert_close(decode_in_chunks(model, tokens, positions, sizes, default_positions_first), full)


@all_attentions
@pytest.mark.parametrize("positional", POSITIONALS)
@pytest.mark.parametrize("n_padding", [1, 4, 11])
@torch.inference_mode()
def test_left_padded_sequences_equal_each_sequence_alone(
    model_of: Any, tokens_of: Any, attention: Any, positional: str, n_padding: int
) -> None:
    model, tokens = model_of(attention=attention, positional=positional), tokens_of(20)
    positions = torch.arange(20).expand(2, -1).clone()
    positions[1] = (positions[1] - n_padding).clamp(min=-1)
    alone = model(tokens[:1])[0], model(tokens[1:, n_padding:])[0]
    # With 11 padding tokens, the first chunk of 3 tokens is all padding in the second sequence.
    for padded in (
        model(tokens, positions=positions)[0],
        decode_in_chunks(model, tokens, positions, [3, 6, 1, 10]),
        decode_in_chunks(model, tokens, positions, [14, 1, 1, 1, 1, 1, 1]),
    ):
        torch.testing.assert_close(padded[:1], alone[0])
        torch.testing.assert_close(padded[1:, n_padding:], alone[1])
        assert padded.isfinite().all()


@all_attentions
@torch.inference_mode()
def test_a_sequence_is_not_affected_by_another_that_is_all_padding(
    model_of: Any, tokens_of: Any, attention: Any
) -> None:
    model, tokens = model_of(attention=attention), tokens_of(9)
    positions = torch.stack([torch.arange(9), torch.full((9,), -1)])
    for sizes in ([9], [3, 6], [1] * 9):
        torch.testing.assert_close(decode_in_chunks(model, tokens, positions, sizes)[:1], model(tokens[:1])[0])


@all_attentions
@pytest.mark.parametrize("length", [3, 24])
def test_gradients_reach_every_parameter_with_and_without_padding(
    model_of: Any, tokens_of: Any, attention: Any, length: int
) -> None:
    tokens = tokens_of(length)
    positions = torch.arange(length).expand(2, -1).clone()
    positions[1] = (positions[1] - 1).clamp(min=-1)
    for padded_positions in (None, positions):
        model = model_of(attention=attention).train()
        model(tokens, tokens.roll(-1, 1), positions=padded_positions)[1].backward()
        for name, parameter in model.named_parameters():
            assert parameter.grad is not None, name
            assert parameter.grad.isfinite().all(), name
            assert parameter.grad.abs().max() > 0, name


@all_attentions
def test_a_few_training_steps_lower_the_loss(spec_of: Any, attention: Any) -> None:
    model = gptzoo.build(spec_of(attention=attention)).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    tokens = torch.arange(21)[None].expand(4, -1) % 5  # 0 1 2 3 4 0 1 …
    losses = []
    for _ in range(30):
        _, loss = model(tokens[:, :-1], tokens[:, 1:])
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert losses[-1] < 0.2 * losses[0]


@all_attentions
@pytest.mark.parametrize("positional", ["rope", "distance"])
def test_autocast_is_close_to_float32_in_training_and_decoding(
    model_of: Any, tokens_of: Any, attention: Any, positional: str
) -> None:
    model, tokens = model_of(attention=attention, positional=positional).float(), tokens_of(20)
    positions = torch.arange(20)[None]
    with torch.inference_mode():
        exact, _ = model(tokens)
        with torch.autocast("cpu", torch.bfloat16):
            for logits in (model(tokens)[0], decode_in_chunks(model, tokens, positions, [11, 1, 8])):
                torch.testing.assert_close(logits.float(), exact, rtol=0.1, atol=0.15)
    with torch.autocast("cpu", torch.bfloat16):
        model.train()(tokens, tokens.roll(-1, 1))[1].backward()
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters())


@all_attentions
@torch.inference_mode()
def test_a_model_in_bfloat16_decodes(model_of: Any, tokens_of: Any, attention: Any) -> None:
    model, tokens = model_of(attention=attention), tokens_of(20)
    exact, _ = model(tokens)
    logits = decode_in_chunks(model.bfloat16(), tokens, torch.arange(20)[None], [11, 1, 8])
    torch.testing.assert_close(logits.double(), exact, rtol=0.1, atol=0.2)


@all_attentions
def test_dropout_is_active_in_training_only(model_of: Any, tokens_of: Any, attention: Any) -> None:
    tokens = tokens_of(20)
    for option in ("dropout", "out_dropout"):
        model = model_of(attention={**attention, option: 0.5})
        assert torch.equal(model(tokens)[0], model(tokens)[0])
        model.train()
        first, second = model(tokens)[0], model(tokens)[0]
        assert not torch.equal(first, second)


@all_attentions
def test_biases_default_to_those_of_the_model(spec_of: Any, attention: Any) -> None:
    def biased(**changes: Any) -> set[str]:
        layer = gptzoo.build(spec_of(**changes), device="meta").blocks[0].attention
        return {name.removesuffix(".bias") for name, _ in layer.named_parameters() if name.endswith("bias")}

    input_projections = (
        {"qkv"} if attention["type"] == "infini" else {"q.down" if "q_rank" in attention else "q", "kv_down"}
    )
    assert biased(attention=attention) == input_projections | {"out"}
    assert biased(attention=attention, bias=False) == set()
    assert biased(attention={**attention, "qkv_bias": False}) == {"out"}
    assert biased(attention={**attention, "out_bias": False}) == input_projections


@all_attentions
def test_it_builds_on_the_meta_device_and_initialises_every_parameter(spec_of: Any, attention: Any) -> None:
    meta = gptzoo.build(spec_of(attention=attention), device="meta")
    assert all(tensor.is_meta for tensor in meta.state_dict().values())
    assert meta(torch.zeros(1, 24, dtype=torch.int64, device="meta"))[0].shape == (1, 24, 13)
    model = gptzoo.build(spec_of(attention=attention))
    assert all(tensor.isfinite().all() for tensor in model.state_dict().values())


@pytest.mark.slow
@pytest.mark.parametrize("attention", ["mla", "infini"])
@torch.inference_mode()
def test_a_compiled_block_equals_the_eager_block(model_of: Any, tokens_of: Any, attention: str) -> None:
    model, tokens, positions = model_of(attention=attention), tokens_of(20), torch.arange(20)[None]
    full, _ = model(tokens)
    torch.compiler.reset()  # the models of all tests share the code of their blocks, and so the recompilation limit
    for block in model.blocks:
        block.compile(backend="aot_eager", fullgraph=True, recompile_limit=64)
    torch.testing.assert_close(model(tokens)[0], full)
    torch.testing.assert_close(
        decode_in_chunks(model, tokens, positions, [12, 1, 1, 6], default_positions_first=True), full
    )


@pytest.mark.parametrize("attention", ["mla", "infini"])
@pytest.mark.parametrize("option", ["dropout", "out_dropout"])
def test_dropout_out_of_range_is_refused(spec_of: Any, attention: str, option: str) -> None:
    with pytest.raises(gptzoo.SpecError, match=rf"\$\.attention\.{option}: should be at least 0 and below 1"):
        gptzoo.load_model_spec(spec_of(attention={"type": attention, option: 1.0}))


def test_the_installed_package_registers_its_components() -> None:
    (entry,) = importlib.metadata.entry_points(group="gptzoo", name="memory")
    assert entry.load() is gptzoo_memory
    assert gptzoo.registered("attention")["mla"] is LatentAttention
    assert gptzoo.registered("attention")["infini"] is InfiniAttention
