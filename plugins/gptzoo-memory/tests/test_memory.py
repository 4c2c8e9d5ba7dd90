"""What both attentions must do in a model: decode as they run in full, ignore padding, train."""

from __future__ import annotations

import importlib.metadata
import re
from pathlib import Path
from typing import Any

import gptzoo_memory
import pytest
import torch
from gptzoo_memory import InfiniAttention, LatentAttention
from torch import Tensor

import gptzoo

KINDS = {
    "mla": {"type": "mla"},
    "mla-odd-sizes": {"type": "mla", "q_rank": 7, "kv_rank": 10, "rope_dim": 4, "nope_dim": 3, "v_dim": 9},
    "infini": {"type": "infini"},
    "infini-delta": {"type": "infini", "segment_length": 5, "update": "delta"},
    "infini-one": {"type": "infini", "segment_length": 1},
}
POSITIONALS = ["rope", "none", "distance", "learned"]
all_kinds = pytest.mark.parametrize("attention", KINDS.values(), ids=KINDS.keys())


def decoded(model: Any, tokens: Tensor, positions: Tensor, sizes: list[int], plain_start: bool = False) -> Tensor:
    """Logits of tokens that are fed in chunks of these sizes."""
    states = model.new_states(len(tokens), sum(sizes))
    parts, first = [], 0
    for size in sizes:
        chunk = slice(first, first + size)
        at = None if plain_start and first == 0 else positions[:, chunk]
        parts.append(model(tokens[:, chunk], positions=at, states=states, no_past=first == 0)[0])
        first += size
    return torch.cat(parts, dim=1)


@all_kinds
@pytest.mark.parametrize("positional", POSITIONALS)
@torch.inference_mode()
def test_cached_decoding_equals_the_full_forward_at_any_split(
    model_of: Any, tokens_of: Any, attention: Any, positional: str
) -> None:
    model, tokens, positions = (
        model_of(attention=attention, positional=positional),
        tokens_of(23),
        torch.arange(23)[None],
    )
    full, _ = model(tokens)
    for sizes in ([1] * 23, [1, 22], [22, 1], [12, 11], [5, 1, 1, 4, 9, 3]):
        for plain_start in (False, True):
            torch.testing.assert_close(decoded(model, tokens, positions, sizes, plain_start), full)


@all_kinds
@pytest.mark.parametrize("positional", POSITIONALS)
@pytest.mark.parametrize("n_padding", [1, 4, 11])
@torch.inference_mode()
def test_left_padded_rows_equal_each_row_alone(
    model_of: Any, tokens_of: Any, attention: Any, positional: str, n_padding: int
) -> None:
    model, tokens = model_of(attention=attention, positional=positional), tokens_of(20)
    positions = torch.arange(20).expand(2, -1).clone()
    positions[1] = (positions[1] - n_padding).clamp(min=-1)
    alone = model(tokens[:1])[0], model(tokens[1:, n_padding:])[0]
    # A chunk of 3 tokens is padding alone in the second row where there are 11 of them.
    for padded in (
        model(tokens, positions=positions)[0],
        decoded(model, tokens, positions, [3, 6, 1, 10]),
        decoded(model, tokens, positions, [14, 1, 1, 1, 1, 1, 1]),
    ):
        torch.testing.assert_close(padded[:1], alone[0])
        torch.testing.assert_close(padded[1:, n_padding:], alone[1])
        assert padded.isfinite().all()


@all_kinds
@torch.inference_mode()
def test_a_short_prompt_beside_a_row_of_padding_alone_is_exact(model_of: Any, tokens_of: Any, attention: Any) -> None:
    model, tokens = model_of(attention=attention), tokens_of(9)
    positions = torch.stack([torch.arange(9), torch.full((9,), -1)])
    for sizes in ([9], [3, 6], [1] * 9):
        torch.testing.assert_close(decoded(model, tokens, positions, sizes)[:1], model(tokens[:1])[0])


@all_kinds
@pytest.mark.parametrize("length", [3, 24])
def test_gradients_reach_every_parameter_with_and_without_padding(
    model_of: Any, tokens_of: Any, attention: Any, length: int
) -> None:
    tokens = tokens_of(length)
    positions = torch.arange(length).expand(2, -1).clone()
    positions[1] = (positions[1] - 1).clamp(min=-1)
    for at in (None, positions):
        model = model_of(attention=attention).train()
        model(tokens, tokens.roll(-1, 1), positions=at)[1].backward()
        for name, parameter in model.named_parameters():
            assert parameter.grad is not None, name
            assert parameter.grad.isfinite().all(), name
            assert parameter.grad.abs().max() > 0, name


@all_kinds
def test_a_few_steps_of_training_lower_the_loss(spec_of: Any, attention: Any) -> None:
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


@all_kinds
@pytest.mark.parametrize("positional", ["rope", "distance"])
def test_under_autocast_it_is_near_float32_in_training_and_decoding(
    model_of: Any, tokens_of: Any, attention: Any, positional: str
) -> None:
    model, tokens = model_of(attention=attention, positional=positional).float(), tokens_of(20)
    positions = torch.arange(20)[None]
    with torch.inference_mode():
        exact, _ = model(tokens)
        with torch.autocast("cpu", torch.bfloat16):
            for logits in (model(tokens)[0], decoded(model, tokens, positions, [11, 1, 8])):
                torch.testing.assert_close(logits.float(), exact, rtol=0.1, atol=0.15)
    with torch.autocast("cpu", torch.bfloat16):
        model.train()(tokens, tokens.roll(-1, 1))[1].backward()
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters())


@all_kinds
@torch.inference_mode()
def test_a_model_in_bfloat16_decodes(model_of: Any, tokens_of: Any, attention: Any) -> None:
    model, tokens = model_of(attention=attention), tokens_of(20)
    exact, _ = model(tokens)
    logits = decoded(model.bfloat16(), tokens, torch.arange(20)[None], [11, 1, 8])
    torch.testing.assert_close(logits.double(), exact, rtol=0.1, atol=0.2)


@all_kinds
def test_dropout_is_active_in_training_alone(model_of: Any, tokens_of: Any, attention: Any) -> None:
    tokens = tokens_of(20)
    for option in ("dropout", "out_dropout"):
        model = model_of(attention={**attention, option: 0.5})
        assert torch.equal(model(tokens)[0], model(tokens)[0])
        model.train()
        first, second = model(tokens)[0], model(tokens)[0]
        assert not torch.equal(first, second)


@all_kinds
def test_biases_follow_the_model_unless_they_are_set(spec_of: Any, attention: Any) -> None:
    def biased(**changes: Any) -> set[str]:
        layer = gptzoo.build(spec_of(**changes), device="meta").blocks[0].attention
        return {name.removesuffix(".bias") for name, _ in layer.named_parameters() if name.endswith("bias")}

    reads = {"qkv"} if attention["type"] == "infini" else {"q.down" if "q_rank" in attention else "q", "kv_down"}
    assert biased(attention=attention) == reads | {"out"}
    assert biased(attention=attention, bias=False) == set()
    assert biased(attention={**attention, "qkv_bias": False}) == {"out"}
    assert biased(attention={**attention, "out_bias": False}) == reads


@all_kinds
def test_it_builds_on_the_meta_device_and_fills_every_value(spec_of: Any, attention: Any) -> None:
    meta = gptzoo.build(spec_of(attention=attention), device="meta")
    assert all(tensor.is_meta for tensor in meta.state_dict().values())
    assert meta(torch.zeros(1, 24, dtype=torch.int64, device="meta"))[0].shape == (1, 24, 13)
    model = gptzoo.build(spec_of(attention=attention))
    assert all(tensor.isfinite().all() for tensor in model.state_dict().values())


@pytest.mark.slow
@pytest.mark.parametrize("attention", ["mla", "infini"])
@torch.inference_mode()
def test_a_compiled_block_computes_the_same(model_of: Any, tokens_of: Any, attention: str) -> None:
    model, tokens, positions = model_of(attention=attention), tokens_of(20), torch.arange(20)[None]
    full, _ = model(tokens)
    torch.compiler.reset()  # all models share the code of their blocks, and with it the limit of recompilation
    for block in model.blocks:
        block.compile(backend="aot_eager", fullgraph=True, recompile_limit=64)
    torch.testing.assert_close(model(tokens)[0], full)
    torch.testing.assert_close(decoded(model, tokens, positions, [12, 1, 1, 6], plain_start=True), full)


@pytest.mark.parametrize("attention", ["mla", "infini"])
@pytest.mark.parametrize("option", ["dropout", "out_dropout"])
def test_dropout_beyond_its_range_is_refused(spec_of: Any, attention: str, option: str) -> None:
    with pytest.raises(gptzoo.SpecError, match=rf"\$\.attention\.{option}: should be at least 0 and below 1"):
        gptzoo.load_model_spec(spec_of(attention={"type": attention, option: 1.0}))


def test_the_installed_package_announces_them() -> None:
    (entry,) = importlib.metadata.entry_points(group="gptzoo", name="memory")
    assert entry.load() is gptzoo_memory
    assert gptzoo.registered("attention")["mla"] is LatentAttention
    assert gptzoo.registered("attention")["infini"] is InfiniAttention


def test_they_use_nothing_of_gptzoo_but_public_names() -> None:
    source = "".join(path.read_text() for path in Path(gptzoo_memory.__file__).parent.glob("*.py"))
    used = set(re.findall(r"\bgptzoo\.(\w+)", source))
    assert used
    assert used <= set(gptzoo.__all__)
    assert not re.search(r"from gptzoo(\.| import)", source)
