"""Properties of every model: causality, gradients, and equal results in all ways to compute them."""

from __future__ import annotations

import copy
import itertools
from typing import Any

import pytest
import torch
from support import SPECS, Arithmetic, admit, logits_of, small, tokens_of, types_with_defaults, with_large_weights
from torch import Tensor, nn
from torch.nn import functional as F

import gptzoo
from gptzoo import AuxiliaryOutputs, FeedForward, Positional, SublayerOutput
from gptzoo.components.sublayer import State
from gptzoo.utils.targets import IGNORED_TARGET

LENGTH = 10


def at(*positions: int, device: Any = "cpu") -> Tensor:
    """Return positions (1, T)."""
    return torch.tensor([positions], device=device)


def decode(model: Any, tokens: Tensor, chunks: list[int]) -> Tensor:
    """Return logits (B, T, V) of tokens that are fed to empty states in chunks."""
    states = model.new_states(len(tokens), tokens.shape[1])
    logits, first = [], 0
    for size in chunks:
        positions = torch.arange(first, first + size, device=tokens.device)[None]
        chunk = tokens[:, first : first + size]
        logits.append(logits_of(model, chunk, positions=positions, states=states, no_past=first == 0))
        first += size
    return torch.cat(logits, dim=1)


def test_the_specs_hold_every_valid_combination_of_attention_positional_and_norm() -> None:
    combinations = set()
    for spec in SPECS.values():
        if isinstance(spec.get("attention"), dict):
            combinations.add((spec["attention"]["type"], spec["positional"], spec["norm"]["type"]))
    built_in = itertools.product(("naive", "sdpa"), ("learned", "sinusoidal", "rope", "none"), ("pre_ln", "post_ln"))
    assert combinations >= set(built_in)
    assert {positional for _, positional, _ in combinations} == set(types_with_defaults("positional"))


# ---------------------------------------------------------------------- causality and gradients


def test_no_token_attends_to_later_tokens(any_spec: dict[str, Any], arithmetic: Arithmetic) -> None:
    model = arithmetic.model(any_spec)
    tokens = tokens_of(model, 2, LENGTH)
    logits = logits_of(model, tokens)
    for position in range(LENGTH):
        changed = tokens.clone()
        changed[:, position] = (changed[:, position] + 1) % model.spec.vocab_size
        after = logits_of(model, changed)
        assert torch.equal(after[:, :position], logits[:, :position]), f"token {position} affects earlier logits"
        assert not torch.equal(after[:, position], logits[:, position]), (
            f"token {position} does not affect its own logits"
        )


def test_every_parameter_has_a_gradient(any_spec: dict[str, Any], arithmetic: Arithmetic) -> None:
    model = arithmetic.model(any_spec).train()
    tokens = tokens_of(model, 4, LENGTH)
    _, loss = model(tokens, tokens.roll(-1, 1))
    loss.backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, f"{name} has no gradient"
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.any(), f"the gradient of {name} is zero"


def test_without_a_window_every_token_affects_the_last_logits(device: str) -> None:
    model = with_large_weights(gptzoo.build(small(positional="rope"), device="cpu").eval()).to(device)
    tokens = tokens_of(model, 1, LENGTH)
    last = logits_of(model, tokens)[:, -1]
    for position in range(LENGTH):
        changed = tokens.clone()
        changed[:, position] = (changed[:, position] + 1) % model.spec.vocab_size
        assert not torch.equal(logits_of(model, changed)[:, -1], last)


def test_a_window_limits_the_receptive_field_to_its_width_times_the_depth(device: str) -> None:
    attention = {"type": "sdpa", "window": 3}
    model = with_large_weights(gptzoo.build(small(positional="rope", attention=attention)).eval()).to(device)
    tokens = tokens_of(model, 1, LENGTH)
    changed = tokens.clone()
    changed[:, 0] = (changed[:, 0] + 1) % model.spec.vocab_size
    same = (logits_of(model, tokens) == logits_of(model, changed)).all(dim=-1)[0]
    reach = model.spec.n_layers * (3 - 1)
    assert same.tolist() == [False] * (reach + 1) + [True] * (LENGTH - reach - 1)


# ---------------------------------------------------------------------- cached decoding


def test_cached_decoding_equals_the_full_forward_at_every_split(
    any_spec: dict[str, Any], arithmetic: Arithmetic
) -> None:
    model = arithmetic.model(any_spec)
    tokens = tokens_of(model, 2, LENGTH)
    with torch.inference_mode():
        full = logits_of(model, tokens)
        splits = [[split, LENGTH - split] for split in range(1, LENGTH)]
        # One by one; chunks that wrap around the ring of a window of 3 in each phase; chunks longer than the ring.
        for chunks in [*splits, [1] * LENGTH, [2] * 5, [1, 2, 2, 1, 2, 2], [3, 3, 3, 1], [1, 4, 5], [2, 1, 1, 4, 1, 1]]:
            arithmetic.close(decode(model, tokens, chunks), full)


def test_the_states_of_a_window_are_a_ring_of_its_size() -> None:
    model = gptzoo.build(small(attention={"type": "sdpa", "window": 3}))
    (state, _) = (layer["attention"] for layer in model.new_states(2, 16))
    assert state["k"].shape == (2, 3 + 1, 4, 8)  # and a slot that takes what padding writes
    assert model.new_states(2, 2)[0]["attention"]["k"].shape[1] == 2 + 1


def test_last_only_gives_the_logits_of_the_last_position(device: str) -> None:
    model = with_large_weights(gptzoo.build(small()).eval()).to(device)
    tokens = tokens_of(model, 2, LENGTH)
    last = logits_of(model, tokens, last_only=True)
    assert last.shape == (2, 1, model.spec.vocab_size)
    torch.testing.assert_close(last, logits_of(model, tokens)[:, -1:])


def left_padded(rows: list[Tensor], length: int) -> tuple[Tensor, Tensor]:
    """Left-pad rows (T,) of any lengths and return tokens and positions, both (B, length)."""
    tokens = torch.stack([F.pad(row, (length - len(row), 0)) for row in rows])
    positions = torch.stack(
        [F.pad(torch.arange(len(row), device=row.device), (length - len(row), 0), value=-1) for row in rows]
    )
    return tokens, positions


def test_left_padded_rows_equal_each_row_alone(any_spec: dict[str, Any], arithmetic: Arithmetic) -> None:
    model = arithmetic.model(any_spec)
    lengths, n_new = [3, 6, 8], 2
    whole = tokens_of(model, len(lengths), LENGTH)
    rows = [row[: length + n_new] for row, length in zip(whole, lengths, strict=True)]
    padded, positions = left_padded([row[:-n_new] for row in rows], 8)
    with torch.inference_mode():
        alone = [logits_of(model, row[None])[0] for row in rows]
        full = logits_of(model, padded, positions=positions)
        states = model.new_states(len(rows), LENGTH)
        prefilled = logits_of(model, padded, positions=positions, states=states, no_past=True)
        steps = []
        for new in range(n_new):
            tokens = torch.stack([row[length + new] for row, length in zip(rows, lengths, strict=True)])[:, None]
            positions = torch.tensor(lengths, device=tokens.device)[:, None] + new
            steps.append(logits_of(model, tokens, positions=positions, states=states))
    for row, length in enumerate(lengths):
        arithmetic.close(full[row, 8 - length :], alone[row][:length])
        arithmetic.close(prefilled[row, 8 - length :], alone[row][:length])
        arithmetic.close(torch.cat([step[row] for step in steps]), alone[row][length:])


def test_rows_may_advance_by_different_numbers_of_tokens(any_spec: dict[str, Any], arithmetic: Arithmetic) -> None:
    model = arithmetic.model(any_spec)
    tokens = tokens_of(model, 2, 7)
    device = tokens.device
    with torch.inference_mode():
        alone = logits_of(model, tokens)
        states = model.new_states(2, 7)
        logits_of(model, tokens[:, :4], states=states, no_past=True)
        # The first row takes three tokens at once; the second takes one of them now, rests, and takes two singly.
        chunk = logits_of(
            model, tokens[:, 4:], positions=torch.tensor([[4, 5, 6], [4, -1, -1]], device=device), states=states
        )
        singles = [
            logits_of(model, tokens[:, [p]], positions=torch.tensor([[-1], [p]], device=device), states=states)[1]
            for p in (5, 6)
        ]
    arithmetic.close(chunk[0], alone[0, 4:])
    arithmetic.close(torch.cat([chunk[1, :1], *singles]), alone[1, 4:])


def test_states_are_reordered_and_cloned_by_indexing_their_rows(
    any_spec: dict[str, Any], arithmetic: Arithmetic
) -> None:
    model = arithmetic.model(any_spec)
    tokens = tokens_of(model, 3, LENGTH)
    rows = torch.tensor([2, 0, 0, 1], device=tokens.device)
    with torch.inference_mode():
        states = model.new_states(3, LENGTH)
        logits_of(model, tokens[:, :6], states=states, no_past=True)
        beams = [
            {name: {key: tensor[rows] for key, tensor in state.items()} for name, state in layer.items()}
            for layer in states
        ]
        later = tokens[rows, 6:].roll(1, dims=0)  # so that the two clones of row 0 go on differently
        positions = torch.arange(6, LENGTH, device=tokens.device)[None]
        continued = logits_of(model, later, positions=positions, states=beams)
        full = logits_of(model, torch.cat([tokens[rows, :6], later], dim=1))
    arithmetic.close(continued, full[:, 6:])


def test_packed_documents_equal_each_document_alone(any_spec: dict[str, Any], arithmetic: Arithmetic) -> None:
    model = arithmetic.model(any_spec)
    lengths = [4, 1, 5]
    parts = tokens_of(model, 2, LENGTH).split(lengths, dim=1)
    positions = torch.cat([torch.arange(length) for length in lengths])[None].to(parts[0].device)
    documents = torch.cat([torch.full((length,), index) for index, length in enumerate(lengths)])
    documents = documents.expand(2, -1).to(parts[0].device)
    with torch.inference_mode():
        packed = logits_of(model, torch.cat(parts, dim=1), positions=positions, documents=documents)
        alone = torch.cat([logits_of(model, part) for part in parts], dim=1)
    arithmetic.close(packed, alone)


def test_documents_are_separate_even_if_positions_continue(device: str) -> None:
    model = with_large_weights(gptzoo.build(small(positional="rope")).eval()).to(
        device
    )  # whose scores know distances only
    tokens = tokens_of(model, 1, LENGTH)
    documents = torch.tensor([[0] * 4 + [1] * 6], device=device)
    packed = logits_of(model, tokens, documents=documents)
    torch.testing.assert_close(packed[:, 4:], logits_of(model, tokens[:, 4:]), rtol=1e-4, atol=1e-4)
    assert not torch.allclose(logits_of(model, tokens)[:, 4:], packed[:, 4:], atol=1e-3)


def test_arguments_that_would_give_wrong_results_are_errors() -> None:
    model = gptzoo.build(small())
    tokens = tokens_of(model, 1, 4)
    with pytest.raises(ValueError, match="positions are required"):
        model(tokens, states=model.new_states(1, 8))
    with pytest.raises(ValueError, match="expected at most 16 tokens"):
        model(torch.zeros(1, 17, dtype=torch.int64))
    with pytest.raises(ValueError, match="documents cannot be used with a past"):
        model(tokens[:, :1], positions=at(0), documents=at(0), states=model.new_states(1, 8))


def test_the_context_has_the_right_guarantees() -> None:
    model = gptzoo.build(small(n_layers=1))
    promised: list[tuple[bool, bool]] = []
    model.blocks[0].register_forward_pre_hook(
        lambda _, inputs: promised.append((inputs[1].trivially_causal, inputs[1].no_past))
    )
    tokens, states = tokens_of(model, 1, 2), model.new_states(1, 8)
    calls: list[tuple[dict[str, Any], tuple[bool, bool]]] = [
        ({}, (True, True)),  # fast kernels are for what is plain
        ({"states": states, "no_past": True}, (True, True)),
        ({"positions": at(0, 1)}, (False, True)),
        ({"positions": at(0, 1), "states": states, "no_past": True}, (False, True)),
        ({"positions": at(2, 3), "states": states}, (False, False)),
        ({"documents": at(0, 1)}, (False, True)),
    ]
    for options, _ in calls:
        model(tokens, **options)
    assert promised == [expected for _, expected in calls]


@pytest.mark.usefixtures("fresh_registry")
def test_documents_need_an_attention_that_supports_them() -> None:
    class NoDocuments(gptzoo.MultiHeadAttention):
        """Does not support documents."""

        name = "no_documents"
        supports = frozenset({"rotate"})

    admit(NoDocuments)
    model = gptzoo.build(small(attention=["sdpa", "no_documents"]))
    with pytest.raises(ValueError, match="attention 'no_documents' does not support documents"):
        model(tokens_of(model, 1, 2), documents=at(0, 1))


# ---------------------------------------------------------------------- loss


def test_the_loss_is_the_cross_entropy_of_the_logits(any_spec: dict[str, Any], arithmetic: Arithmetic) -> None:
    model = arithmetic.model(any_spec)
    tokens = tokens_of(model, 2, LENGTH)
    targets = tokens.roll(-1, 1)
    targets[:, -1] = IGNORED_TARGET
    logits, loss = model(tokens, targets)
    assert logits is None
    expected = logits_of(model, tokens).flatten(0, 1)
    expected = expected.to(torch.promote_types(expected.dtype, torch.float32))
    arithmetic.close(loss, F.cross_entropy(expected, targets.flatten(), ignore_index=IGNORED_TARGET))


class Chatty(FeedForward):
    """Returns a loss, a metric and, on request, a capture."""

    name = "chatty"

    def forward(self, x: Tensor, step: Any, state: State | None = None) -> SublayerOutput:
        captures = {"input": x} if "input" in step.capture else {}
        return SublayerOutput(
            0 * x, losses={"balance": x.new_tensor(0.5)}, metrics={"load": x.mean()}, captures=captures
        )


@pytest.mark.usefixtures("fresh_registry")
def test_auxiliary_losses_are_added_only_in_training_and_all_outputs_are_collected() -> None:
    admit(Chatty)
    model = gptzoo.build(small(ffn=["chatty", "mlp"], n_layers=3))
    tokens = tokens_of(model, 2, 4)
    seen = AuxiliaryOutputs()
    _, training = model.train()(tokens, tokens, auxiliary=seen, capture=["input"])
    assert sorted(seen.losses) == ["blocks.0.ffn.balance", "blocks.2.ffn.balance"]
    assert sorted(seen.metrics) == ["blocks.0.ffn.load", "blocks.2.ffn.load"]
    assert seen.captures["blocks.2.ffn.input"].shape == (2, 4, 32)
    _, evaluated = model.eval()(tokens, tokens)
    torch.testing.assert_close(training - evaluated, torch.tensor(1.0))


def test_only_requested_tensors_are_captured() -> None:
    model = gptzoo.build(small(n_layers=3, attention=["sdpa", "naive"]))
    tokens = tokens_of(model, 2, 4)
    seen = AuxiliaryOutputs()
    model(tokens, auxiliary=seen)
    assert seen.captures == {}
    model(tokens, auxiliary=seen, capture=["attention"])
    names = [name for name in seen.captures if name.endswith("attention.attention")]
    assert names == [f"blocks.{layer}.attention.attention" for layer in range(3)]


# ---------------------------------------------------------------------- small models, dropout, keeping


def test_one_head_one_layer_one_channel_pair_and_one_token_work(arithmetic: Arithmetic) -> None:
    spec = {"vocab_size": 2, "context_length": 1, "d_model": 2, "n_layers": 1, "n_heads": 1, "positional": "rope"}
    model = arithmetic.model(spec)
    assert logits_of(model, tokens_of(model, 1, 1)).shape == (1, 1, 2)


@pytest.mark.parametrize("positional", ["learned", "sinusoidal", "rope", "none"])
def test_one_head_works(arithmetic: Arithmetic, positional: str) -> None:
    model = arithmetic.model(small(n_heads=1, positional=positional))
    tokens = tokens_of(model, 2, LENGTH)
    arithmetic.close(decode(model, tokens, [4, 1, 5]), logits_of(model, tokens))


def test_dropout_acts_only_in_training(any_spec: dict[str, Any], device: str) -> None:
    model = gptzoo.build({**any_spec, "dropout": 0.5}, device=device)
    tokens = tokens_of(model, 2, LENGTH)
    model.train()
    assert not torch.equal(logits_of(model, tokens), logits_of(model, tokens))
    model.eval()
    assert torch.equal(logits_of(model, tokens), logits_of(model, tokens))


@pytest.mark.parametrize(
    "option",
    [
        {"attention": {"type": "naive", "dropout": 0.5}},
        {"attention": {"type": "sdpa", "dropout": 0.5}},
        {"attention": {"type": "sdpa", "out_dropout": 0.5}},
        {"ffn": {"type": "mlp", "dropout": 0.5}},
        {"ffn": {"type": "glu", "dropout": 0.5}},
        {"architecture": {"type": "decoder", "embed_dropout": 0.5}},
    ],
    ids=str,
)
def test_each_dropout_option_acts_alone(option: dict[str, Any], device: str) -> None:
    model = with_large_weights(gptzoo.build(small(**option)).train()).to(device)
    tokens = tokens_of(model, 2, LENGTH)
    assert not torch.equal(logits_of(model, tokens), logits_of(model, tokens))


def test_without_dropout_training_mode_changes_no_logits(device: str) -> None:
    model = gptzoo.build(small(), device=device).train()
    tokens = tokens_of(model, 2, LENGTH)
    assert torch.equal(logits_of(model, tokens), logits_of(model.eval(), tokens))


def test_a_deep_copy_is_an_equal_model_with_its_own_weights(any_spec: dict[str, Any]) -> None:
    model = with_large_weights(gptzoo.build(any_spec).eval())
    tokens = tokens_of(model, 2, LENGTH)
    before = logits_of(model, tokens)
    twin = copy.deepcopy(model)
    assert twin.spec == model.spec
    assert torch.equal(logits_of(twin, tokens), before)
    with_large_weights(twin, seed=1)
    assert torch.equal(logits_of(model, tokens), before)
    assert not torch.equal(logits_of(twin, tokens), before)


def test_weights_survive_a_state_dict_round_trip(any_spec: dict[str, Any]) -> None:
    model = with_large_weights(gptzoo.build(any_spec).eval())
    tokens = tokens_of(model, 2, LENGTH)
    other = gptzoo.build(any_spec, seed=2).eval()
    assert not torch.equal(logits_of(other, tokens), logits_of(model, tokens))
    other.load_state_dict(model.state_dict())
    assert torch.equal(logits_of(other, tokens), logits_of(model, tokens))


def test_the_state_dict_keys_of_a_gpt2_like_spec() -> None:
    model = gptzoo.build(small(), device="meta")
    shapes = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    block = {
        "norm.layers.attention.weight": (32,),
        "norm.layers.attention.bias": (32,),
        "norm.layers.ffn.weight": (32,),
        "norm.layers.ffn.bias": (32,),
        "attention.qkv.weight": (96, 32),
        "attention.qkv.bias": (96,),
        "attention.out.weight": (32, 32),
        "attention.out.bias": (32,),
        "ffn.up.weight": (128, 32),
        "ffn.up.bias": (128,),
        "ffn.down.weight": (32, 128),
        "ffn.down.bias": (32,),
    }
    assert shapes == {
        "embed.weight": (13, 32),
        "positionals.0.table.weight": (16, 32),
        **{f"blocks.{layer}.{name}": shape for layer in range(2) for name, shape in block.items()},
        "exit.weight": (32,),
        "exit.bias": (32,),
    }


def test_tied_weights_are_one_parameter() -> None:
    tied, untied = gptzoo.build(small()), gptzoo.build(small(tie_embeddings=False))
    assert set(untied.state_dict()) - set(tied.state_dict()) == {"head.weight"}
    assert sum(p.shape == (13, 32) for p in tied.parameters()) == 1
    tokens = torch.tensor([[1, 2, 3]])
    before = logits_of(tied, tokens)
    with torch.no_grad():
        tied.embed.weight[7] *= -1  # a token that is not read shows in the output alone
    changed = (logits_of(tied, tokens) != before).any(dim=(0, 1))
    assert changed.nonzero().tolist() == [[7]]


# ---------------------------------------------------------------------- the ends of the stack


class Widened(gptzoo.Norm):
    """Carries two copies of the stream from entry to exit, as hyper-connections do, and works on their sum."""

    name = "widened"

    class Entry(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.stack([x, 2 * x], dim=-2)

    class Exit(nn.Module):
        def __init__(self, width: int):
            super().__init__()
            self.mix = nn.Linear(2 * width, width)

        def forward(self, x: Tensor) -> Tensor:
            return self.mix(x.flatten(-2))

    @classmethod
    def entry(cls, config: Any, dims: Any) -> nn.Module:
        return cls.Entry()

    @classmethod
    def exit(cls, config: Any, dims: Any) -> nn.Module:
        return cls.Exit(dims.d_model)

    def forward(self, x: Tensor, sublayers: Any) -> Tensor:
        for name, sublayer in sublayers.items():
            x = x + sublayer(self.layers[name](x.sum(-2)))[..., None, :]
        return x


@pytest.mark.usefixtures("fresh_registry")
def test_a_norm_scheme_defines_both_ends_of_the_stack(arithmetic: Arithmetic) -> None:
    admit(Widened)
    model = arithmetic.model(small(norm="widened"))
    assert "exit.mix.weight" in model.state_dict()
    seen: list[Any] = []
    for block in model.blocks:
        block.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    tokens = tokens_of(model, 2, LENGTH)
    full = logits_of(model, tokens)
    assert [tuple(x.shape) for x in seen] == [(2, LENGTH, 2, 32)] * 2
    assert torch.equal(seen[0][..., 1, :], 2 * seen[0][..., 0, :])
    arithmetic.close(decode(model, tokens, [4, 1, 5]), full)


# ---------------------------------------------------------------------- parts that differ by depth


def test_a_list_is_cycled_over_the_layers() -> None:
    model = gptzoo.build(small(n_layers=5, attention=["naive", "sdpa"], ffn=["glu", "mlp", "mlp"]), device="meta")
    assert [block.attention.name for block in model.blocks] == ["naive", "sdpa", "naive", "sdpa", "naive"]
    assert [block.ffn.name for block in model.blocks] == ["glu", "mlp", "mlp", "glu", "mlp"]


def test_layers_with_the_same_positional_share_one_instance() -> None:
    other = {"type": "rope", "theta": 5.0}
    model = gptzoo.build(small(n_layers=4, positional=["rope", other, "learned", "rope"]), device="meta")
    assert [p.config.type for p in model.positionals] == ["rope", "rope", "learned"]
    assert model.positional_of_layer == [0, 1, 2, 0]
    assert model.max_length == 16


def test_a_layer_without_positions_does_not_use_those_of_other_layers() -> None:
    choices = ["rope", "none", ["rope", "none"], ["none", "rope"]]  # none has no weights, so all four are equal
    models = [with_large_weights(gptzoo.build(small(positional=positional))) for positional in choices]
    logits = [logits_of(model, tokens_of(model, 1, LENGTH)) for model in models]
    for one, other in itertools.combinations(logits, 2):
        assert not torch.allclose(one, other, atol=1e-3)


class Lists(Positional):
    """Has an option that is a list."""

    name = "lists"

    class Config(Positional.Config):
        factors: list[float] = [1.0]


@pytest.mark.usefixtures("fresh_registry")
def test_a_positional_may_have_a_list_option() -> None:
    admit(Lists)
    model = gptzoo.build(small(n_layers=3, positional=["lists", {"type": "lists", "factors": [2.0]}]), device="meta")
    assert len(model.positionals) == 2
