"""The architecture by itself: what sees what, padding, cached writing, other parts, rules, costs."""

from __future__ import annotations

import importlib.metadata
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import gptzoo_seq2seq
import pytest
import torch
from gptzoo_seq2seq import CrossAttention, EncoderDecoder, Pairs
from torch import Tensor

import gptzoo

SMALL: dict[str, Any] = {
    "vocab_size": 13,
    "context_length": 16,
    "d_model": 24,
    "n_layers": 2,
    "n_heads": 4,
    "architecture": "encoder_decoder",
    "positional": "rope",
}


def loud(model: Any) -> Any:
    """With noise on every parameter, so that attention is far from uniform and no bias is zero; in eval mode."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            parameter.add_(noise * (parameter.shape[-1] ** -0.5 if parameter.ndim > 1 else 0.2))
    return model.eval()


def model_of(options: dict[str, Any] | None = None, **changes: Any) -> Any:
    architecture = {"type": "encoder_decoder", **(options or {})}
    return loud(gptzoo.build({**SMALL, "architecture": architecture, **changes}))


def ids(batch_size: int, length: int, seed: int = 1) -> Tensor:
    return torch.randint(13, (batch_size, length), generator=torch.Generator().manual_seed(seed))


def close(actual: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-4)


def plain_types(kind: str) -> list[str]:
    """The registered components of a kind that need no option."""
    found = gptzoo.registered(kind)
    return [name for name in found if not any(f.is_required() for f in found[name].Config.model_fields.values())]


@torch.inference_mode()
def written(model: Any, tokens: Tensor, source: Tensor, sizes: list[int]) -> Tensor:
    """The logits of a target that is fed in chunks; the source comes with the first, into states with room to spare."""
    states = model.new_states(len(tokens), tokens.shape[1], source_length=source.shape[1] + 2)
    parts, first = [], 0
    for size in sizes:
        positions = torch.arange(first, first + size)[None]
        known = {"source": source, "fresh": True} if first == 0 else {}
        parts.append(model(tokens[:, first : first + size], positions=positions, states=states, **known)[0])
        first += size
    return torch.cat(parts, dim=1)


# ---------------------------------------------------------------------- what sees what


@torch.inference_mode()
def test_every_token_of_the_source_is_seen_by_all_of_the_source_and_all_of_the_target() -> None:
    model = model_of()
    tokens, source = ids(1, 5), ids(1, 6, seed=2)
    memory, logits = model.encode(source)[0], model(tokens, source=source)[0]
    for place in range(6):
        other = source.clone()
        other[0, place] = (source[0, place] + 1) % 13
        for before, after in ((memory, model.encode(other)[0]), (logits, model(tokens, source=other)[0])):
            assert ((before - after).abs().amax(-1) > 1e-4).all(), place


@torch.inference_mode()
def test_a_token_of_the_target_is_seen_by_itself_and_those_after_it_only() -> None:
    model = model_of()
    tokens, source = ids(1, 6), ids(1, 5, seed=2)
    logits, _ = model(tokens, source=source)
    for place in range(6):
        other = tokens.clone()
        other[0, place] = (tokens[0, place] + 1) % 13
        changed = (model(other, source=source)[0] - logits).abs().amax(-1)[0] > 1e-4
        assert changed.tolist() == [False] * place + [True] * (6 - place)


@torch.inference_mode()
@pytest.mark.parametrize("positional", ["learned", "sinusoidal", "rope", "none"])
@pytest.mark.parametrize("at", [[0, 1], [4, 5], [2, 4], [0, 5]], ids=str)
def test_padding_of_the_source_changes_nothing_wherever_it_is(positional: str, at: list[int]) -> None:
    model = model_of(positional=positional)
    tokens, source = ids(2, 5), ids(2, 4, seed=2)
    padded = torch.full((2, 6), -1)
    padded[:, [place for place in range(6) if place not in at]] = source
    close(model(tokens, source=padded)[0], model(tokens, source=source)[0])


@torch.inference_mode()
def test_padding_of_the_target_on_the_right_needs_no_positions_and_on_the_left_has_position_minus_one() -> None:
    model = model_of()
    tokens, source = ids(2, 6), ids(2, 4, seed=2)
    close(model(tokens, source=source)[0][:, :4], model(tokens[:, :4], source=source)[0])
    positions = torch.tensor([[-1, -1, 0, 1, 2, 3]])
    close(model(tokens, source=source, positions=positions)[0][:, 2:], model(tokens[:, 2:], source=source)[0])


@torch.inference_mode()
@pytest.mark.parametrize("capture", [[], ["attention"]])
def test_a_row_without_a_source_reads_nothing_from_it(capture: list[str]) -> None:
    model = model_of()
    logits, _ = model(ids(1, 3), source=torch.full((1, 4), -1), capture=capture)
    close(logits, model(ids(1, 3), source=torch.full((1, 2), -1))[0])


@torch.inference_mode()
def test_captured_maps_cover_the_source_and_leave_the_logits_as_they_are() -> None:
    model, seen = model_of(), gptzoo.AuxiliaryOutputs()
    tokens, source = ids(2, 5), ids(2, 6, seed=2)
    source[0, 4:] = -1
    logits, _ = model(tokens, source=source, capture=["attention"], auxiliary=seen)
    close(logits, model(tokens, source=source)[0])
    for layer in range(2):
        cross = seen.captures[f"blocks.{layer}.cross.attention"]
        assert cross.shape == (2, 4, 5, 6)
        assert cross[0, :, :, 4:].eq(0).all()
        close(cross.sum(-1), torch.ones(2, 4, 5))
        assert seen.captures[f"blocks.{layer}.cross.k_pos"].tolist() == [[0, 1, 2, 3, -1, -1], [*range(6)]]
        assert seen.captures[f"blocks.{layer}.attention.attention"].shape == (2, 4, 5, 5)
        assert seen.captures[f"encoder.blocks.{layer}.attention.attention"].shape == (2, 4, 6, 6)


# ---------------------------------------------------------------------- writing


@pytest.mark.parametrize("positional", plain_types("positional"))
@pytest.mark.parametrize("norm", plain_types("norm"))
def test_cached_writing_equals_the_full_forward_for_every_norm_and_positional(norm: str, positional: str) -> None:
    model = model_of(norm=norm, positional=positional)
    tokens, source = ids(2, 7), ids(2, 5, seed=2)
    source[1, 3:] = -1
    with torch.inference_mode():
        full, _ = model(tokens, source=source)
    for sizes in ([1] * 7, [1, 4, 2]):
        close(written(model, tokens, source, sizes), full)


def fits_an_encoder(attention: str) -> bool:
    return gptzoo.registered("attention")[attention].supports >= {"noncausal", "padding"}


@pytest.mark.parametrize("attention", plain_types("attention"))
def test_every_attention_works_in_the_decoder_and_in_the_encoder_if_it_honours_what_that_needs(attention: str) -> None:
    positional = "rope" if "rotate" in gptzoo.registered("attention")[attention].supports else "sinusoidal"
    encoder = attention if fits_an_encoder(attention) else "sdpa"
    model = model_of(
        {"encoder_attention": encoder}, attention=attention, positional=positional, d_model=32, context_length=256
    )
    tokens, source = ids(2, 6), ids(2, 5, seed=2)
    source[1, 3:] = -1
    with torch.inference_mode():
        full, _ = model(tokens, source=source)
        close(full[1:], model(tokens[1:], source=source[1:, :3])[0])
    close(written(model, tokens, source, [1, 3, 1, 1]), full)


@torch.inference_mode()
def test_states_are_rows_that_can_be_reordered_and_used_again() -> None:
    model = model_of()
    tokens, source = ids(3, 4), ids(3, 5, seed=2)
    source[0, 2:] = -1
    states = model.new_states(3, 4, source_length=5)
    model(tokens[:, :2], source=source, states=states, no_past=True)
    rows = torch.tensor([2, 0, 0])
    moved = [{n: {k: t[rows] for k, t in state.items()} for n, state in layer.items()} for layer in states]
    logits, _ = model(tokens[rows, 2:], positions=torch.tensor([[2, 3]]), states=moved)
    close(logits, model(tokens, source=source)[0][rows, 2:])

    model.prefill([[1, 2, 3]] * 3, 1)
    pointers = [t.data_ptr() for layer in states for state in layer.values() for t in state.values()]
    shorter = source[:, :2]
    fresh = model.new_states(3, 4, source_length=5)
    model(tokens[:, :2], source=shorter, states=fresh, no_past=True)
    model(tokens[:, :2], source=shorter, states=states, no_past=True)
    assert pointers == [t.data_ptr() for layer in states for state in layer.values() for t in state.values()]
    at = torch.tensor([[2]])
    going_on = [model(tokens[:, 2:3], positions=at, states=each)[0] for each in (states, fresh)]
    close(*going_on)


@torch.inference_mode()
def test_room_for_the_source_is_as_long_as_it_is_and_as_the_target_if_it_is_not_said() -> None:
    model = model_of()
    assert model.new_states(2, 7, source_length=3)[0]["cross"]["k"].shape == (2, 3, 4, 6)
    assert model.new_states(2, 7)[1]["cross"]["k"].shape == (2, 7, 4, 6)
    assert model.new_states(2, 7, dtype=torch.bfloat16, source_length=3)[0]["cross"]["v"].dtype == torch.bfloat16
    assert model.new_states(2, 7, device="meta", source_length=3)[0]["cross"]["v"].is_meta


@pytest.mark.parametrize("positional", ["learned", "rope"])
def test_prompts_of_different_lengths_go_on_as_each_alone_and_as_without_a_cache(positional: str) -> None:
    model = model_of(positional=positional)
    prompts = [[1, 2, 3, 4, 5, 0], [6, 0], [7, 8, 0]]
    greedy = gptzoo.SamplingSpec.model_validate(
        {"max_new_tokens": 8, "processors": [{"type": "temperature", "value": 0.0}]}
    )
    together = gptzoo.generate(model, prompts, greedy)
    assert together == [gptzoo.generate(model, [prompt], greedy)[0] for prompt in prompts]
    for prompt, new in zip(prompts, together, strict=True):
        tokens = torch.tensor([[prompt[-1], *new[:-1]]])
        with torch.inference_mode():
            assert model(tokens, source=torch.tensor([prompt[:-1]]))[0].argmax(-1)[0].tolist() == new


def test_there_is_room_for_a_target_of_all_positions_whatever_the_length_of_the_source() -> None:
    model = model_of(positional="learned")
    assert (model.remaining_length(2), model.remaining_length(17), model.remaining_length(18)) == (15, 15, 0)
    assert len(gptzoo.generate(model, [[1] * 17], gptzoo.SamplingSpec(max_new_tokens=15))[0]) == 15
    with pytest.raises(gptzoo.InputError, match="at most 15 new tokens"):
        gptzoo.generate(model, [[1] * 17], gptzoo.SamplingSpec(max_new_tokens=16))
    with pytest.raises(gptzoo.InputError, match="at most 0 new tokens"):
        gptzoo.generate(model, [[1] * 18], gptzoo.SamplingSpec(max_new_tokens=1))
    assert model_of().remaining_length(1000) is None
    assert model_of({"encoder_positional": "learned"}).remaining_length(17) is None
    assert model_of({"encoder_positional": "learned"}).max_length == 16
    assert model_of({"encoder_positional": "rope"}, positional="learned").remaining_length(1000) == 15


def test_a_prompt_without_a_source_is_refused() -> None:
    with pytest.raises(gptzoo.InputError, match="'encoder_decoder' is a source and, last, the token that the target"):
        gptzoo.generate(model_of(), [[1, 2], [3]])


def test_calls_that_cannot_be_right_are_refused() -> None:
    model = model_of(positional="learned")
    with pytest.raises(ValueError, match="a source is needed"):
        model(ids(1, 4))
    with pytest.raises(ValueError, match="17 tokens are more than positions reach, which is 16"):
        model(ids(1, 17), source=ids(1, 4))
    with pytest.raises(ValueError, match="a source of 17 tokens is more than the encoder's positions reach"):
        model(ids(1, 4), source=ids(1, 17))
    with pytest.raises(ValueError, match="positions are needed"):
        model(ids(1, 1), states=model.new_states(1, 4))


# ---------------------------------------------------------------------- learning


def test_gradients_reach_every_parameter() -> None:
    model = model_of({"head_bias": True}, positional="learned", tie_embeddings=False)
    source = ids(2, 6, seed=2)
    source[0, 4:] = -1
    model(ids(2, 16), ids(2, 16, seed=3), source=torch.cat([source, ids(2, 10)], dim=1))[1].backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())


def test_the_loss_is_the_mean_over_the_targets_that_count() -> None:
    model = model_of()
    tokens, targets, source = ids(2, 5), ids(2, 5, seed=3), ids(2, 4, seed=2)
    targets[0, 3:] = -100
    logits, _ = model(tokens, source=source)
    expected = torch.nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten())
    close(model(tokens, targets, source=source)[1], expected)


def test_it_computes_under_bf16_autocast() -> None:
    model = model_of()
    tokens, source = ids(2, 5), ids(2, 4, seed=2)
    expected = model(tokens, source=source)[0]
    with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
        torch.testing.assert_close(model(tokens, source=source)[0].float(), expected, rtol=0.1, atol=0.2)
        torch.testing.assert_close(written(model, tokens, source, [2, 1, 2]).float(), expected, rtol=0.1, atol=0.2)


# ---------------------------------------------------------------------- specs


DIFFERENT: dict[str, Any] = {
    "n_encoder_layers": 1,
    "encoder_attention": {"type": "sdpa", "window": 2},
    "encoder_positional": "none",
    "encoder_ffn": "glu",
    "cross": {"type": "multi_head", "qkv_bias": False},
}


@pytest.mark.parametrize("option", DIFFERENT)
def test_every_option_changes_what_is_computed_and_no_initial_value_of_the_decoder(option: str) -> None:
    tokens, source = ids(2, 6), ids(2, 5, seed=2)
    logits, weights = [], []
    for options in ({}, {option: DIFFERENT[option]}):
        model = gptzoo.build({**SMALL, "architecture": {"type": "encoder_decoder", **options}}).double().eval()
        weights.append(model.blocks[1].attention.qkv.weight.detach())
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if name.endswith("bias"):
                    parameter.fill_(0.1)  # initial ones are zero, as if there were none
            logits.append(model(tokens, source=source)[0])
    assert not torch.allclose(*logits, rtol=0, atol=1e-9)
    assert torch.equal(*weights)


@pytest.mark.parametrize("option", ["dropout", "out_dropout"])
def test_the_dropouts_of_cross_attention_work_in_training_only(option: str) -> None:
    model = model_of({"cross": {"type": "multi_head", option: 0.5}})
    tokens, source = ids(2, 6), ids(2, 5, seed=2)
    plain = model_of()(tokens, source=source)[0]
    close(model(tokens, source=source)[0], plain)
    torch.manual_seed(0)
    assert not torch.allclose(model.train()(tokens, source=source)[0], plain, atol=1e-2)
    seen = gptzoo.load_model_spec({**SMALL, "dropout": 0.25}).resolved()["architecture"]["cross"]
    assert seen[option] == 0.25


def test_cross_attention_has_the_biases_that_it_is_said_to_have() -> None:
    for option, layers in (("qkv_bias", ["q", "kv"]), ("out_bias", ["out"])):
        cross = model_of({"cross": {"type": "multi_head", option: False}}).blocks[0].cross
        assert [name for name in ("q", "kv", "out") if getattr(cross, name).bias is None] == layers
    assert model_of(bias=False).blocks[0].cross.kv.bias is None


def test_the_encoder_is_built_as_the_decoder_unless_it_is_said_otherwise() -> None:
    model = model_of(attention=["sdpa", {"type": "sdpa", "window": 3}], n_layers=4, ffn="glu")
    assert [block.attention.window for block in model.encoder.blocks] == [None, 3, None, 3]
    assert model.encoder.blocks[0].ffn.config == model.blocks[0].ffn.config
    assert model.encoder.spec.n_layers == 4
    assert model_of({"n_encoder_layers": 1}).encoder.spec.dims.n_layers == 1
    own = model_of({"encoder_attention": ["naive", {"type": "sdpa", "n_kv_heads": 1}]})
    assert [block.attention.n_kv_heads for block in own.encoder.blocks] == [4, 1]


def test_reading_the_resolved_spec_gives_an_equal_spec() -> None:
    for options in ({}, DIFFERENT):
        spec = gptzoo.load_model_spec({**SMALL, "architecture": {"type": "encoder_decoder", **options}})
        assert gptzoo.load_model_spec(spec.resolved()) == spec


@pytest.fixture(scope="module")
def causal_only(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A registered attention that has no word for an encoder."""
    file = tmp_path_factory.mktemp("plugin") / "causal_plugin.py"
    file.write_text(
        "import gptzoo\n"
        "class Causal(gptzoo.Attention):\n"
        "    '''Sees the past only, and takes no score bias.'''\n"
        "    name = 'causal_only'\n"
        "    supports = frozenset({'padding', 'rotate'})\n"
        "@gptzoo.hookimpl\n"
        "def gptzoo_components():\n"
        "    return [Causal]\n"
    )
    gptzoo.load_plugin(file)
    return "causal_only"


def refused(**changes: Any) -> str:
    with pytest.raises(gptzoo.SpecError) as error:
        gptzoo.load_model_spec({**SMALL, **changes})
    return str(error.value)


def test_an_attention_that_cannot_look_ahead_is_refused_for_the_encoder_and_not_for_the_decoder(
    causal_only: str,
) -> None:
    told = (
        "$.architecture.encoder_attention: 'encoder_decoder' lets tokens see the future, "
        "which attention 'causal_only' does not honour"
    )
    assert told in refused(attention=causal_only)
    assert told in refused(attention=["sdpa", causal_only])
    assert told in refused(architecture={"type": "encoder_decoder", "encoder_attention": causal_only})
    apart = {"type": "encoder_decoder", "encoder_attention": "sdpa"}
    assert gptzoo.load_model_spec({**SMALL, "attention": causal_only, "architecture": apart}).n_layers == 2


def test_parts_that_do_not_fit_each_other_are_refused(causal_only: str) -> None:
    told = refused(
        positional="none",
        architecture={"type": "encoder_decoder", "encoder_attention": causal_only, "encoder_positional": "alibi"},
    )
    if "alibi" in gptzoo.registered("positional"):
        assert "encoder_positional: 'alibi' needs bias, which attention 'causal_only' does not honour" in told
    told = refused(architecture={"type": "encoder_decoder", "n_encoder_layers": 1, "encoder_ffn": ["mlp", "glu"]})
    assert "$.architecture.encoder_ffn: a list of 2 for 1 layers of the encoder" in told
    told = refused(architecture={"type": "encoder_decoder", "cross": {"type": "multi_head", "dropout": 1.0}})
    assert "$.architecture.cross.dropout: should be at least 0 and below 1" in told
    told = refused(architecture={"type": "encoder_decoder", "encoder_atention": "sdpa"})
    assert "did you mean 'encoder_attention'?" in told


# ---------------------------------------------------------------------- building


def test_it_builds_on_meta_and_the_seed_alone_decides_its_initial_values() -> None:
    assert all(parameter.is_meta for parameter in gptzoo.build(SMALL, device="meta").parameters())
    one, same, other = (gptzoo.build(SMALL, seed=seed).state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert not torch.equal(one["blocks.0.cross.q.weight"], other["blocks.0.cross.q.weight"])
    ratio = one["blocks.0.cross.out.weight"].std() / one["blocks.0.cross.q.weight"].std()
    assert ratio.item() == pytest.approx(0.5, rel=0.1)  # it writes the residual stream of a model of two layers


def test_the_card_counts_encoder_and_decoder(tmp_path: Path) -> None:
    file = tmp_path / "model.json"
    architecture = {"type": "encoder_decoder", "n_encoder_layers": 3, "encoder_positional": "none"}
    file.write_text(json.dumps({**SMALL, "architecture": architecture}))
    command = [sys.executable, "-m", "gptzoo", "build", str(file), "--json"]
    found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    model = model_of({"n_encoder_layers": 3, "encoder_positional": "none"})
    counted = found["parameters"]
    assert counted["total"] == sum(p.numel() for p in model.parameters())
    attentions = [block.attention for block in [*model.blocks, *model.encoder.blocks]]
    crosses = [block.cross for block in model.blocks]
    for kind, modules in (("attention", attentions), ("cross_attention", crosses)):
        assert counted["by_part"][kind] == sum(p.numel() for module in modules for p in module.parameters())

    c, t = 24, 16  # products: a token through each matrix, and scores and sums over T keys in each attention
    encoder, decoder = 3 * (24 * c * c + 4 * t * c), 2 * (32 * c * c + 8 * t * c)
    assert found["flops_per_token"]["forward"] == encoder + decoder + 2 * 13 * c
    assert found["training_memory"]["activation_bytes"] > 0
    assert found["kv_cache_bytes_per_token"] == 2 * 2 * 2 * c * 4  # of source and target alike
    stacks = [row for row in found["stack"] if "n_layers" in row]
    assert [stack["n_layers"] for stack in stacks] == [3, 2]
    assert [stack["positionals"][0]["config"]["type"] for stack in stacks] == ["none", model.spec.positional.type]


def test_the_installed_package_announces_its_parts() -> None:
    (entry,) = importlib.metadata.entry_points(group="gptzoo", name="seq2seq")
    assert entry.load() is gptzoo_seq2seq
    for component in (EncoderDecoder, CrossAttention, Pairs):
        assert gptzoo.registered(component.kind)[component.name] is component


def test_it_uses_nothing_of_gptzoo_but_public_names() -> None:
    for file in Path(gptzoo_seq2seq.__file__).parent.glob("*.py"):
        text = file.read_text()
        assert set(re.findall(r"\bgptzoo\.(\w+)", text)) <= set(gptzoo.__all__), file
        assert not re.findall(r"(?:from|import) gptzoo\.", text), file


@torch.inference_mode()
def test_both_sides_show_their_attention_and_their_residual_stream_while_a_prompt_is_read() -> None:
    model, seen = model_of(), gptzoo.AuxiliaryOutputs()
    prompt = ids(1, 8)[0].tolist()
    primed = model.prefill([prompt], 2, capture={"attention", "residual", "hidden"}, auxiliary=seen)
    shapes = {name: tuple(tensor.shape) for name, tensor in seen.captures.items() if "1." in name}
    assert shapes == {
        "encoder.blocks.1.attention.attention": (1, 4, 7, 7),
        "encoder.blocks.1.attention.k_pos": (1, 7),
        "encoder.blocks.1.residual": (1, 7, 24),
        "blocks.1.attention.attention": (1, 4, 1, 1),
        "blocks.1.attention.k_pos": (1, 1),
        "blocks.1.cross.attention": (1, 4, 1, 7),
        "blocks.1.cross.k_pos": (1, 7),
        "blocks.1.residual": (1, 1, 24),
    }
    close(model.readout(seen.captures["blocks.1.residual"])[:, -1], primed.logits)
    close(model.head(seen.captures["hidden"], model.embed.weight)[:, -1], primed.logits)
