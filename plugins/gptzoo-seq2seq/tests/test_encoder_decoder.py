"""The encoder-decoder: which tokens attend to which, padding, cached decoding, components, specs and accounting."""

from __future__ import annotations

import importlib.metadata
import json
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


def with_noise(model: Any) -> Any:
    """Add noise to every parameter, so that attention is far from uniform and no bias is zero. Set eval mode."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            parameter.add_(noise * (parameter.shape[-1] ** -0.5 if parameter.ndim > 1 else 0.2))
    return model.eval()


def model_of(options: dict[str, Any] | None = None, **changes: Any) -> Any:
    architecture = {"type": "encoder_decoder", **(options or {})}
    return with_noise(gptzoo.build({**SMALL, "architecture": architecture, **changes}))


def ids(batch_size: int, length: int, seed: int = 1) -> Tensor:
    return torch.randint(13, (batch_size, length), generator=torch.Generator().manual_seed(seed))


def close(actual: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-4)


def types_without_required_options(kind: str) -> list[str]:
    """Return the names of the registered components of a kind that have no required option."""
    components = gptzoo.registered(kind)
    return [
        name for name in components if not any(f.is_required() for f in components[name].Config.model_fields.values())
    ]


@torch.inference_mode()
def decode_in_chunks(model: Any, tokens: Tensor, source: Tensor, sizes: list[int]) -> Tensor:
    """Return the logits of a target that is passed in chunks, the first one with the source."""
    states = model.new_states(len(tokens), tokens.shape[1], source_length=source.shape[1] + 2)
    parts, first = [], 0
    for size in sizes:
        positions = torch.arange(first, first + size)[None]
        first_only = {"source": source, "no_past": True} if first == 0 else {}
        parts.append(model(tokens[:, first : first + size], positions=positions, states=states, **first_only)[0])
        first += size
    return torch.cat(parts, dim=1)


# ---------------------------------------------------------------------- attention between source and target


@torch.inference_mode()
def test_all_source_and_target_tokens_attend_to_every_source_token() -> None:
    model = model_of()
    tokens, source = ids(1, 5), ids(1, 6, seed=2)
    memory, logits = model.encode(source)[0], model(tokens, source=source)[0]
    for index in range(6):
        other = source.clone()
        other[0, index] = (source[0, index] + 1) % 13
        for before, after in ((memory, model.encode(other)[0]), (logits, model(tokens, source=other)[0])):
            assert ((before - after).abs().amax(-1) > 1e-4).all(), index


@torch.inference_mode()
def test_target_tokens_attend_to_themselves_and_earlier_target_tokens_only() -> None:
    model = model_of()
    tokens, source = ids(1, 6), ids(1, 5, seed=2)
    logits, _ = model(tokens, source=source)
    for index in range(6):
        other = tokens.clone()
        other[0, index] = (tokens[0, index] + 1) % 13
        changed = (model(other, source=source)[0] - logits).abs().amax(-1)[0] > 1e-4
        assert changed.tolist() == [False] * index + [True] * (6 - index)


@torch.inference_mode()
@pytest.mark.parametrize("positional", ["learned", "sinusoidal", "rope", "none"])
@pytest.mark.parametrize("padding", [[0, 1], [4, 5], [2, 4], [0, 5]], ids=str)
def test_padding_of_the_source_changes_nothing_at_any_index(positional: str, padding: list[int]) -> None:
    model = model_of(positional=positional)
    tokens, source = ids(2, 5), ids(2, 4, seed=2)
    padded = torch.full((2, 6), -1)
    padded[:, [index for index in range(6) if index not in padding]] = source
    close(model(tokens, source=padded)[0], model(tokens, source=source)[0])


@torch.inference_mode()
def test_right_padding_of_the_target_needs_no_positions_and_left_padding_has_position_minus_one() -> None:
    model = model_of()
    tokens, source = ids(2, 6), ids(2, 4, seed=2)
    close(model(tokens, source=source)[0][:, :4], model(tokens[:, :4], source=source)[0])
    positions = torch.tensor([[-1, -1, 0, 1, 2, 3]])
    close(model(tokens, source=source, positions=positions)[0][:, 2:], model(tokens[:, 2:], source=source)[0])


@torch.inference_mode()
@pytest.mark.parametrize("capture", [[], ["attention"]])
def test_cross_attention_to_an_empty_source_is_zero(capture: list[str]) -> None:
    model = model_of()
    logits, _ = model(ids(1, 3), source=torch.full((1, 4), -1), capture=capture)
    close(logits, model(ids(1, 3), source=torch.full((1, 2), -1))[0])


@torch.inference_mode()
def test_captured_weights_cover_the_source_and_do_not_change_the_logits() -> None:
    model, auxiliary = model_of(), gptzoo.AuxiliaryOutputs()
    tokens, source = ids(2, 5), ids(2, 6, seed=2)
    source[0, 4:] = -1
    logits, _ = model(tokens, source=source, capture=["attention"], auxiliary=auxiliary)
    close(logits, model(tokens, source=source)[0])
    for layer in range(2):
        cross = auxiliary.captures[f"blocks.{layer}.cross.attention"]
        assert cross.shape == (2, 4, 5, 6)
        assert cross[0, :, :, 4:].eq(0).all()
        close(cross.sum(-1), torch.ones(2, 4, 5))
        assert auxiliary.captures[f"blocks.{layer}.cross.k_pos"].tolist() == [[0, 1, 2, 3, -1, -1], [*range(6)]]
        assert auxiliary.captures[f"blocks.{layer}.attention.attention"].shape == (2, 4, 5, 5)
        assert auxiliary.captures[f"encoder.blocks.{layer}.attention.attention"].shape == (2, 4, 6, 6)


# ---------------------------------------------------------------------- decoding


@pytest.mark.parametrize("positional", types_without_required_options("positional"))
@pytest.mark.parametrize("norm", types_without_required_options("norm"))
def test_cached_decoding_equals_the_full_forward_pass_for_every_norm_and_positional(norm: str, positional: str) -> None:
    model = model_of(norm=norm, positional=positional)
    tokens, source = ids(2, 7), ids(2, 5, seed=2)
    source[1, 3:] = -1
    with torch.inference_mode():
        full, _ = model(tokens, source=source)
    for sizes in ([1] * 7, [1, 4, 2]):
        close(decode_in_chunks(model, tokens, source, sizes), full)


def works_in_an_encoder(attention: str) -> bool:
    return gptzoo.registered("attention")[attention].supports >= {"noncausal", "padding"}


@pytest.mark.parametrize("attention", types_without_required_options("attention"))
def test_every_attention_works_in_the_decoder_and_in_the_encoder_if_it_supports_the_required_features(
    attention: str,
) -> None:
    positional = "rope" if "rotate" in gptzoo.registered("attention")[attention].supports else "sinusoidal"
    encoder = attention if works_in_an_encoder(attention) else "sdpa"
    model = model_of(
        {"encoder_attention": encoder}, attention=attention, positional=positional, d_model=32, context_length=256
    )
    tokens, source = ids(2, 6), ids(2, 5, seed=2)
    source[1, 3:] = -1
    with torch.inference_mode():
        full, _ = model(tokens, source=source)
        close(full[1:], model(tokens[1:], source=source[1:, :3])[0])
    close(decode_in_chunks(model, tokens, source, [1, 3, 1, 1]), full)


@torch.inference_mode()
def test_slots_of_states_can_be_reordered_and_reused() -> None:
    model = model_of()
    tokens, source = ids(3, 4), ids(3, 5, seed=2)
    source[0, 2:] = -1
    states = model.new_states(3, 4, source_length=5)
    model(tokens[:, :2], source=source, states=states, no_past=True)
    slots = torch.tensor([2, 0, 0])
    reordered = [{n: {k: t[slots] for k, t in state.items()} for n, state in layer.items()} for layer in states]
    logits, _ = model(tokens[slots, 2:], positions=torch.tensor([[2, 3]]), states=reordered)
    close(logits, model(tokens, source=source)[0][slots, 2:])

    model.prefill([[1, 2, 3]] * 3, 1)
    pointers = [t.data_ptr() for layer in states for state in layer.values() for t in state.values()]
    shorter = source[:, :2]
    empty = model.new_states(3, 4, source_length=5)
    model(tokens[:, :2], source=shorter, states=empty, no_past=True)
    model(tokens[:, :2], source=shorter, states=states, no_past=True)
    assert pointers == [t.data_ptr() for layer in states for state in layer.values() for t in state.values()]
    position = torch.tensor([[2]])
    close(*(model(tokens[:, 2:3], positions=position, states=either)[0] for either in (states, empty)))


@torch.inference_mode()
def test_the_source_length_of_states_defaults_to_the_target_length() -> None:
    model = model_of()
    assert model.new_states(2, 7, source_length=3)[0]["cross"]["k"].shape == (2, 3, 4, 6)
    assert model.new_states(2, 7)[1]["cross"]["k"].shape == (2, 7, 4, 6)
    assert model.new_states(2, 7, dtype=torch.bfloat16, source_length=3)[0]["cross"]["v"].dtype == torch.bfloat16
    assert model.new_states(2, 7, device="meta", source_length=3)[0]["cross"]["v"].is_meta


@pytest.mark.parametrize("positional", ["learned", "rope"])
def test_prompts_of_different_lengths_give_the_same_tokens_as_each_alone_and_as_without_a_cache(
    positional: str,
) -> None:
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


def test_the_target_may_use_all_positions_for_any_source_length() -> None:
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
    with pytest.raises(gptzoo.InputError, match="'encoder_decoder' is a source followed by the first token"):
        gptzoo.generate(model_of(), [[1, 2], [3]])


def test_invalid_arguments_are_refused() -> None:
    model = model_of(positional="learned")
    with pytest.raises(ValueError, match="a source is required"):
        model(ids(1, 4))
    with pytest.raises(ValueError, match="expected at most 16 target tokens, got 17"):
        model(ids(1, 17), source=ids(1, 4))
    with pytest.raises(ValueError, match="expected at most 16 source tokens, got 17"):
        model(ids(1, 4), source=ids(1, 17))
    with pytest.raises(ValueError, match="positions are required"):
        model(ids(1, 1), states=model.new_states(1, 4))


# ---------------------------------------------------------------------- training


def test_gradients_reach_every_parameter() -> None:
    model = model_of({"head_bias": True}, positional="learned", tie_embeddings=False)
    source = ids(2, 6, seed=2)
    source[0, 4:] = -1
    model(ids(2, 16), ids(2, 16, seed=3), source=torch.cat([source, ids(2, 10)], dim=1))[1].backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())


def test_the_loss_is_the_mean_over_targets_that_are_not_ignored() -> None:
    model = model_of()
    tokens, targets, source = ids(2, 5), ids(2, 5, seed=3), ids(2, 4, seed=2)
    targets[0, 3:] = -100
    logits, _ = model(tokens, source=source)
    expected = torch.nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten())
    close(model(tokens, targets, source=source)[1], expected)


def test_bf16_autocast_is_close_to_float32() -> None:
    model = model_of()
    tokens, source = ids(2, 5), ids(2, 4, seed=2)
    expected = model(tokens, source=source)[0]
    with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
        torch.testing.assert_close(model(tokens, source=source)[0].float(), expected, rtol=0.1, atol=0.2)
        torch.testing.assert_close(
            decode_in_chunks(model, tokens, source, [2, 1, 2]).float(), expected, rtol=0.1, atol=0.2
        )


# ---------------------------------------------------------------------- specs


DIFFERENT: dict[str, Any] = {
    "n_encoder_layers": 1,
    "encoder_attention": {"type": "sdpa", "window": 2},
    "encoder_positional": "none",
    "encoder_ffn": "glu",
    "cross": {"type": "multi_head", "qkv_bias": False},
}


@pytest.mark.parametrize("option", DIFFERENT)
def test_every_option_changes_the_logits_but_no_initial_values_of_the_decoder(option: str) -> None:
    tokens, source = ids(2, 6), ids(2, 5, seed=2)
    logits, weights = [], []
    for options in ({}, {option: DIFFERENT[option]}):
        model = gptzoo.build({**SMALL, "architecture": {"type": "encoder_decoder", **options}}).double().eval()
        weights.append(model.blocks[1].attention.qkv.weight.detach())
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if name.endswith("bias"):
                    parameter.fill_(0.1)  # initial biases are zero, as if there were none
            logits.append(model(tokens, source=source)[0])
    assert not torch.allclose(*logits, rtol=0, atol=1e-9)
    assert torch.equal(*weights)


@pytest.mark.parametrize("option", ["dropout", "out_dropout"])
def test_dropout_of_cross_attention_is_active_in_training_only(option: str) -> None:
    model = model_of({"cross": {"type": "multi_head", option: 0.5}})
    tokens, source = ids(2, 6), ids(2, 5, seed=2)
    without_dropout = model_of()(tokens, source=source)[0]
    close(model(tokens, source=source)[0], without_dropout)
    torch.manual_seed(0)
    assert not torch.allclose(model.train()(tokens, source=source)[0], without_dropout, atol=1e-2)
    resolved = gptzoo.load_model_spec({**SMALL, "dropout": 0.25}).resolved()["architecture"]["cross"]
    assert resolved[option] == 0.25


def test_cross_attention_has_the_configured_biases() -> None:
    for option, layers in (("qkv_bias", ["q", "kv"]), ("out_bias", ["out"])):
        cross = model_of({"cross": {"type": "multi_head", option: False}}).blocks[0].cross
        assert [name for name in ("q", "kv", "out") if getattr(cross, name).bias is None] == layers
    assert model_of(bias=False).blocks[0].cross.kv.bias is None


def test_the_encoder_defaults_to_the_components_of_the_decoder() -> None:
    model = model_of(attention=["sdpa", {"type": "sdpa", "window": 3}], n_layers=4, ffn="glu")
    assert [block.attention.window for block in model.encoder.blocks] == [None, 3, None, 3]
    assert model.encoder.blocks[0].ffn.config == model.blocks[0].ffn.config
    assert model.encoder.spec.n_layers == 4
    assert model_of({"n_encoder_layers": 1}).encoder.spec.dims.n_layers == 1
    separate = model_of({"encoder_attention": ["naive", {"type": "sdpa", "n_kv_heads": 1}]})
    assert [block.attention.n_kv_heads for block in separate.encoder.blocks] == [4, 1]


def test_a_resolved_spec_loads_as_the_same_spec() -> None:
    for options in ({}, DIFFERENT):
        spec = gptzoo.load_model_spec({**SMALL, "architecture": {"type": "encoder_decoder", **options}})
        assert gptzoo.load_model_spec(spec.resolved()) == spec


@pytest.fixture(scope="module")
def causal_only(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Register a causal attention. Return its name."""
    file = tmp_path_factory.mktemp("plugin") / "causal_plugin.py"
    file.write_text(
        "import gptzoo\n"
        "class Causal(gptzoo.Attention):\n"
        "    '''Causal attention without support for score biases.'''\n"
        "    name = 'causal_only'\n"
        "    supports = frozenset({'padding', 'rotate'})\n"
        "@gptzoo.hookimpl\n"
        "def gptzoo_components():\n"
        "    return [Causal]\n"
    )
    gptzoo.load_plugin(file)
    return "causal_only"


def error_of(**changes: Any) -> str:
    with pytest.raises(gptzoo.SpecError) as error:
        gptzoo.load_model_spec({**SMALL, **changes})
    return str(error.value)


def test_a_causal_attention_is_refused_in_the_encoder_but_not_in_the_decoder(causal_only: str) -> None:
    message = (
        "$.architecture.encoder_attention: 'causal_only' does not support 'noncausal': the encoder attends to later "
        "tokens"
    )
    assert message in error_of(attention=causal_only)
    assert message in error_of(attention=["sdpa", causal_only])
    assert message in error_of(architecture={"type": "encoder_decoder", "encoder_attention": causal_only})
    architecture = {"type": "encoder_decoder", "encoder_attention": "sdpa"}
    assert gptzoo.load_model_spec({**SMALL, "attention": causal_only, "architecture": architecture}).n_layers == 2


def test_incompatible_components_are_refused(causal_only: str) -> None:
    message = error_of(
        positional="none",
        architecture={"type": "encoder_decoder", "encoder_attention": causal_only, "encoder_positional": "alibi"},
    )
    if "alibi" in gptzoo.registered("positional"):
        assert "encoder_positional: 'alibi' requires 'bias', which attention 'causal_only' does not support" in message
    message = error_of(architecture={"type": "encoder_decoder", "n_encoder_layers": 1, "encoder_ffn": ["mlp", "glu"]})
    assert "$.architecture.encoder_ffn: should have at most one entry per encoder layer, 1, not 2" in message
    message = error_of(architecture={"type": "encoder_decoder", "cross": {"type": "multi_head", "dropout": 1.0}})
    assert "$.architecture.cross.dropout: should be at least 0 and below 1" in message
    message = error_of(architecture={"type": "encoder_decoder", "encoder_atention": "sdpa"})
    assert "did you mean 'encoder_attention'?" in message


# ---------------------------------------------------------------------- building


def test_it_builds_on_the_meta_device_and_initial_values_depend_on_the_seed_only() -> None:
    assert all(parameter.is_meta for parameter in gptzoo.build(SMALL, device="meta").parameters())
    first, same, other = (gptzoo.build(SMALL, seed=seed).state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(first[name], same[name]) for name in first)
    assert not torch.equal(first["blocks.0.cross.q.weight"], other["blocks.0.cross.q.weight"])
    ratio = first["blocks.0.cross.out.weight"].std() / first["blocks.0.cross.q.weight"].std()
    assert ratio.item() == pytest.approx(0.5, rel=0.1)  # it writes the residual stream of a model of two layers


def test_the_model_card_counts_encoder_and_decoder(tmp_path: Path) -> None:
    file = tmp_path / "model.json"
    architecture = {"type": "encoder_decoder", "n_encoder_layers": 3, "encoder_positional": "none"}
    file.write_text(json.dumps({**SMALL, "architecture": architecture}))
    command = [sys.executable, "-m", "gptzoo", "build", str(file), "--json"]
    account = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    model = model_of({"n_encoder_layers": 3, "encoder_positional": "none"})
    parameters = account["parameters"]
    assert parameters["total"] == sum(p.numel() for p in model.parameters())
    attentions = [block.attention for block in [*model.blocks, *model.encoder.blocks]]
    crosses = [block.cross for block in model.blocks]
    for kind, modules in (("attention", attentions), ("cross_attention", crosses)):
        assert parameters["by_part"][kind] == sum(p.numel() for module in modules for p in module.parameters())

    c, t = 24, 16  # per token: products with each matrix, and in each attention scores and weighted sums over T keys
    encoder, decoder = 3 * (24 * c * c + 4 * t * c), 2 * (32 * c * c + 8 * t * c)
    assert account["flops_per_token"]["forward"] == encoder + decoder + 2 * 13 * c
    assert account["training_memory"]["activation_bytes"] > 0
    assert account["kv_cache_bytes_per_token"] == 2 * 2 * 2 * c * 4  # for source and target
    stacks = [row for row in account["stack"] if "n_layers" in row]
    assert [stack["n_layers"] for stack in stacks] == [3, 2]
    assert [stack["positionals"][0]["config"]["type"] for stack in stacks] == ["none", model.spec.positional.type]


def test_the_installed_package_registers_its_components() -> None:
    (entry,) = importlib.metadata.entry_points(group="gptzoo", name="seq2seq")
    assert entry.load() is gptzoo_seq2seq
    for component in (EncoderDecoder, CrossAttention, Pairs):
        assert gptzoo.registered(component.kind)[component.name] is component


@torch.inference_mode()
def test_prefill_captures_attention_and_residual_streams_of_encoder_and_decoder() -> None:
    model, auxiliary = model_of(), gptzoo.AuxiliaryOutputs()
    prompt = ids(1, 8)[0].tolist()
    output = model.prefill([prompt], 2, capture={"attention", "residual", "hidden"}, auxiliary=auxiliary)
    shapes = {name: tuple(tensor.shape) for name, tensor in auxiliary.captures.items() if "1." in name}
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
    close(model.readout(auxiliary.captures["blocks.1.residual"])[:, -1], output.logits)
    close(model.head(auxiliary.captures["hidden"], model.embed.weight)[:, -1], output.logits)
