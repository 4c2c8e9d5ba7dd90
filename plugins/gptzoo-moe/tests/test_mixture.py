"""The mixture compared with a loop over tokens and experts, and in a model: cache, padding, training, accounting."""

from __future__ import annotations

import copy
import importlib.metadata
import json
import re
from pathlib import Path
from typing import Any

import gptzoo_moe
import pytest
import torch
from click.testing import CliRunner
from gptzoo_moe import MixtureOfExperts
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from torch.utils.flop_counter import FlopCounterMode

import gptzoo
from gptzoo.cli import main

SMALL: dict[str, Any] = {"vocab_size": 13, "context_length": 16, "d_model": 32, "n_layers": 2, "n_heads": 4}
MLP = {"type": "mlp", "d_ff": 24}
OPTIONS: list[dict[str, Any]] = [
    {},
    {"n_active": 1, "normalise": False},
    {"n_active": 3, "normalise": False, "balance": None},
    {"n_active": 3, "scores": "sigmoid", "balance": "bias", "n_shared": 2},
    {"n_experts": 4, "n_active": 4, "expert": {"type": "glu", "d_ff": 10}, "n_shared": 1},
]


@pytest.fixture(params=OPTIONS, ids=str)
def options(request: pytest.FixtureRequest) -> dict[str, Any]:
    return request.param


def moe_spec(options: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return {**SMALL, "ffn": {"type": "moe", "expert": MLP, **options}, **changes}


def model_of(options: dict[str, Any], dtype: torch.dtype = torch.float32, **changes: Any) -> Any:
    """Build a tiny model with weights so large that router scores differ and every expert affects the logits."""
    model = gptzoo.build(moe_spec(options, **changes)).eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            scale = parameter.shape[-1] ** -0.5 if parameter.ndim > 1 else 0.3
            parameter.copy_(noise * scale + (parameter.ndim == 1 and "norm" in name))
        for name, buffer in model.named_buffers():
            if name.endswith("balance.bias"):
                buffer.normal_(std=0.2, generator=generator)
    return model.to(dtype)


def tokens_of(length: int, batch_size: int = 2) -> Tensor:
    return torch.randint(13, (batch_size, length), generator=torch.Generator().manual_seed(1))


def random_input(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(2)).to(dtype)


def context_at(positions: Tensor) -> gptzoo.ForwardContext:
    return gptzoo.ForwardContext(positions, nn.Identity())


def moe_of(options: dict[str, Any], dtype: torch.dtype = torch.float32) -> Any:
    return model_of(options, dtype).blocks[0].ffn


def run_moe(moe: Any, x: Tensor, positions: Tensor | None = None) -> Any:
    return moe(x, context_at(torch.arange(x.shape[1])[None] if positions is None else positions))


# ---------------------------------------------------------------------- outputs


def one_token(moe: Any, x: Tensor) -> tuple[Tensor, list[int]]:
    """Compute the mixture for one token (C,). Return the output and the selected experts."""
    config, context = moe.config, context_at(torch.zeros(1, 1, dtype=torch.int64))
    logits = [float(row @ x) for row in moe.router.weight]
    if config.scores == "softmax":
        total = sum(torch.tensor(logits, dtype=torch.float64).exp().tolist())
        scores = [torch.tensor(value, dtype=torch.float64).exp().item() / total for value in logits]
    else:
        scores = [1 / (1 + torch.tensor(-value, dtype=torch.float64).exp().item()) for value in logits]
    bias = getattr(moe.balance, "bias", torch.zeros(config.n_experts)).tolist()
    ranked = sorted(range(config.n_experts), key=lambda expert: scores[expert] + bias[expert], reverse=True)
    active = ranked[: config.n_active]
    divisor = sum(scores[expert] for expert in active) if config.normalise else 1.0
    y = sum(scores[expert] / divisor * moe.experts[expert](x.view(1, 1, -1), context).flatten() for expert in active)
    return sum((shared(x.view(1, 1, -1), context).flatten() for shared in moe.shared), start=y), active


@torch.no_grad()
def test_the_output_of_a_token_is_the_weighted_sum_of_its_experts(options: dict[str, Any]) -> None:
    moe = moe_of(options, torch.float64)
    x = random_input(3, 7, 32, dtype=torch.float64)
    y, _, metrics, *_ = run_moe(moe, x)
    counts = torch.zeros(moe.config.n_experts, dtype=torch.float64)
    for row in range(3):
        for t in range(7):
            expected, active = one_token(moe, x[row, t])
            torch.testing.assert_close(y[row, t], expected, rtol=1e-9, atol=1e-9)
            counts[active] += 1
    torch.testing.assert_close(metrics["load"], counts / counts.sum())


@torch.no_grad()
def test_no_token_is_dropped_if_all_select_the_same_experts() -> None:
    moe = moe_of({"n_active": 2}, torch.float64)
    moe.router.weight.zero_()
    moe.router.weight[3, 0], moe.router.weight[5, 0] = 9.0, 8.0
    x = random_input(4, 9, 32, dtype=torch.float64)
    x[..., 0] = 5.0
    y, _, metrics, *_ = run_moe(moe, x)
    assert metrics["load"].tolist() == [0, 0, 0, 0.5, 0, 0.5, 0, 0]
    assert metrics["imbalance"] == 4
    for t in range(9):
        torch.testing.assert_close(y[2, t], one_token(moe, x[2, t])[0])


def test_an_expert_receives_the_positions_of_its_tokens() -> None:
    moe = moe_of({})
    x = random_input(2, 6, 32)
    positions = torch.tensor([[0, 1, 2, 3, 4, 5], [-1, -1, 7, 8, 9, 10]])
    calls: list[tuple[Tensor, Tensor]] = []
    for expert in moe.experts:
        expert.register_forward_pre_hook(lambda module, args: calls.append((args[0], args[1].positions)))
    run_moe(moe, x, positions)
    assert sum(expert_positions.numel() for _, expert_positions in calls) == 2 * 12
    for expert_input, expert_positions in calls:
        assert expert_input.shape[:2] == expert_positions.shape
        for token, position in zip(expert_input[0], expert_positions[0], strict=True):
            assert bool(((x == token).all(-1) & (positions == position)).any())


def test_gradients_reach_the_router_and_every_expert(options: dict[str, Any]) -> None:
    moe = moe_of(options)
    output = run_moe(moe, random_input(4, 32, 32))
    assert output.metrics["load"].min() > 0  # no expert without tokens
    sum(output.losses.values(), start=output.y.square().sum()).backward()
    for name, parameter in moe.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().max() > 0, name


def test_the_router_has_gradients_without_a_balance_loss() -> None:
    moe = moe_of({"balance": None})
    run_moe(moe, random_input(2, 6, 32)).y.square().sum().backward()
    assert moe.router.weight.grad.abs().max() > 0


def test_an_expert_without_tokens_has_gradients_of_zero() -> None:
    moe = moe_of({"n_experts": 8, "n_active": 1, "normalise": False})
    run_moe(moe, random_input(1, 1, 32)).y.sum().backward()
    gradients = [expert.up.weight.grad.abs().max().item() for expert in moe.experts]
    assert sorted(gradient > 0 for gradient in gradients) == [False] * 7 + [True]


def test_outputs_and_gradients_are_reproducible_bit_for_bit(options: dict[str, Any]) -> None:
    model = model_of(options)
    tokens = tokens_of(12)
    runs = []
    for _ in range(2):
        model.zero_grad()
        _, loss = model(tokens, tokens.roll(-1, 1))
        loss.backward()
        runs.append([loss.detach(), *(parameter.grad.clone() for parameter in model.parameters())])
    assert all(torch.equal(first, second) for first, second in zip(*runs, strict=True))


def test_activation_checkpointing_does_not_change_gradients() -> None:
    moe = moe_of({"balance": "bias"})
    x = random_input(2, 6, 32).requires_grad_()
    bias = moe.balance.bias.clone()
    run_moe(moe, x).y.square().sum().backward()
    expected = [x.grad.clone(), *(parameter.grad.clone() for parameter in moe.parameters())]
    x.grad = None
    moe.zero_grad()
    checkpoint(lambda x: run_moe(moe, x).y, x, use_reentrant=False).square().sum().backward()
    actual = [x.grad, *(parameter.grad for parameter in moe.parameters())]
    assert all(torch.equal(a, b) for a, b in zip(actual, expected, strict=True))
    assert torch.equal(moe.balance.bias, bias)


# ---------------------------------------------------------------------- independence of tokens


@torch.no_grad()
def test_a_token_does_not_depend_on_other_tokens(options: dict[str, Any]) -> None:
    # Not bitwise: the kernel of a matrix product may depend on the number of tokens of the expert.
    for dtype, tolerance in ((torch.float64, 1e-13), (torch.float32, 2e-6)):
        moe = moe_of(options, dtype)
        x = random_input(2, 9, 32, dtype=dtype)
        whole = run_moe(moe, x).y
        for t in range(9):
            alone = run_moe(moe, x[:1, t : t + 1]).y
            assert (whole[:1, t : t + 1] - alone).abs().max() <= tolerance * whole.abs().max()


@torch.inference_mode()
def test_cached_decoding_equals_the_full_forward_pass(options: dict[str, Any]) -> None:
    model = model_of(options, torch.float64, positional="rope")
    tokens = tokens_of(12)
    full, _ = model(tokens)
    for sizes in ([1] * 12, [7, 5], [5, 1, 1, 5]):
        states = model.new_states(2, 12)
        parts, first = [], 0
        for size in sizes:
            positions = torch.arange(first, first + size)[None]
            parts.append(model(tokens[:, positions[0]], positions=positions, states=states, no_past=first == 0)[0])
            first += size
        torch.testing.assert_close(torch.cat(parts, dim=1), full, rtol=1e-9, atol=1e-9)


@torch.inference_mode()
def test_left_padded_sequences_equal_each_sequence_alone(options: dict[str, Any]) -> None:
    model = model_of(options, torch.float64)
    tokens = tokens_of(8)
    positions = torch.tensor([[-1, -1, -1, 0, 1, 2, 3, 4], [-1, 0, 1, 2, 3, 4, 5, 6]])
    padded, _ = model(tokens, positions=positions)
    torch.testing.assert_close(padded[:1, 3:], model(tokens[:1, 3:])[0], rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(padded[1:, 1:], model(tokens[1:, 1:])[0], rtol=1e-9, atol=1e-9)


@torch.no_grad()
def test_padding_counts_neither_in_losses_nor_in_metrics(options: dict[str, Any]) -> None:
    moe = moe_of(options, torch.float64)
    x = random_input(2, 7, 32, dtype=torch.float64)
    padded = run_moe(moe, x, torch.tensor([[-1, -1, -1, 0, 1, 2, 3], [-1, -1, -1, 0, 1, 2, 3]]))
    alone = run_moe(moe, x[:, 3:])
    assert padded.losses.keys() == alone.losses.keys()
    for actual, expected in ((padded.losses, alone.losses), (padded.metrics, alone.metrics)):
        for name in expected:
            torch.testing.assert_close(actual[name], expected[name])


@torch.no_grad()
def test_losses_and_metrics_are_finite_if_all_tokens_are_padding() -> None:
    output = run_moe(moe_of({}), random_input(1, 3, 32), torch.full((1, 3), -1))
    assert all(tensor.isfinite().all() for tensor in (*output.losses.values(), *output.metrics.values()))


# ---------------------------------------------------------------------- precision


@torch.inference_mode()
def test_the_router_computes_in_float32_under_autocast(options: dict[str, Any]) -> None:
    moe = moe_of(options)
    x = random_input(2, 9, 32)
    expected = run_moe(moe, x)
    with torch.autocast("cpu", torch.bfloat16):
        output = run_moe(moe, x)
    for name, metric in expected.metrics.items():
        assert torch.equal(output.metrics[name], metric)
    assert output.y.dtype == x.dtype
    assert 0 < (output.y - expected.y).abs().max() < 0.02 * expected.y.abs().max()


@torch.inference_mode()
def test_a_bfloat16_model_returns_bfloat16_logits() -> None:
    logits, _ = model_of({"balance": "bias"}, torch.bfloat16)(tokens_of(9))
    assert logits.dtype == torch.bfloat16
    assert logits.isfinite().all()


@torch.no_grad()
def test_scores_that_underflow_do_not_become_nan() -> None:
    moe = moe_of({"scores": "sigmoid"})
    x = random_input(1, 3, 32)
    x[..., 0] = 1e6
    moe.router.weight[:, 0] = -1.0
    output = run_moe(moe, x)
    assert output.y.isfinite().all()
    assert output.metrics["router_entropy"].isfinite()


def test_the_router_entropy_is_log_n_experts_for_equal_scores() -> None:
    moe = moe_of({})
    with torch.no_grad():
        moe.router.weight.zero_()
    entropy = run_moe(moe, random_input(2, 5, 32)).metrics["router_entropy"]
    assert entropy.item() == pytest.approx(torch.tensor(8.0).log().item())
    assert not entropy.requires_grad


# ---------------------------------------------------------------------- accounting


def account_of(spec: dict[str, Any], folder: Path, *arguments: str) -> dict[str, Any]:
    """Return the JSON of `gptzoo build` for a model."""
    file = folder / "model.json"
    file.write_text(json.dumps(spec))
    result = CliRunner().invoke(main, ["build", str(file), "--json", *arguments], catch_exceptions=False)
    account = json.loads(result.stdout)
    assert account["not_counted"] is None
    return account


@pytest.mark.parametrize(("n_active", "n_shared"), [(1, 0), (2, 0), (2, 1), (8, 0)])
def test_accounting_counts_the_active_experts_the_shared_ones_and_the_router(
    n_active: int, n_shared: int, tmp_path: Path
) -> None:
    dense = account_of({**SMALL, "ffn": MLP}, tmp_path)
    options = {"n_active": n_active, "n_shared": n_shared, "normalise": n_active > 1}
    sparse = account_of(moe_spec(options), tmp_path)
    expert, router, n_layers = 2 * 2 * 32 * 24, 2 * 32 * 8, 2
    extra = n_layers * ((n_active + n_shared - 1) * expert + router)
    assert sparse["flops_per_token"]["forward"] == dense["flops_per_token"]["forward"] + extra
    assert sparse["flops_per_token"]["training"] == dense["flops_per_token"]["training"] + 3 * extra
    additional = n_layers * ((8 + n_shared - 1) * (2 * 32 * 24 + 24 + 32) + 8 * 32)
    assert sparse["parameters"]["total"] == dense["parameters"]["total"] + additional


@pytest.mark.parametrize("length", [1, 5, 16])
def test_an_uneven_load_takes_as_many_flops_as_the_dry_run_counts(length: int) -> None:
    moe = moe_of({"n_shared": 1})
    x = random_input(1, length, 32)
    counts = []
    for device in ("cpu", "meta"):
        with FlopCounterMode(display=False) as counter:
            copy.deepcopy(moe).to(device)(x.to(device), context_at(torch.arange(length, device=device)[None]))
        counts.append(counter.get_total_flops())
    assert counts[0] == counts[1] == length * (3 * 2 * 2 * 32 * 24 + 2 * 32 * 8)


def test_activation_memory_grows_with_the_active_experts_only(tmp_path: Path) -> None:
    few, more_experts, more_active, dense = (
        account_of(spec, tmp_path)["training_memory"]["activation_bytes"]
        for spec in (
            moe_spec({"n_active": 2}),
            moe_spec({"n_active": 2, "n_experts": 16}),
            moe_spec({"n_active": 6}),
            {**SMALL, "ffn": {"type": "mlp", "d_ff": 48}},
        )
    )
    assert more_experts < 1.1 * few
    assert more_active > 1.4 * few
    assert dense < few < 3 * dense


def test_training_in_bf16_is_accounted_for(tmp_path: Path) -> None:
    memory = account_of(moe_spec({}), tmp_path, "--dtype", "bf16")["training_memory"]
    assert memory["total_bytes"] > memory["weight_bytes"] + memory["optimizer_bytes"] + memory["activation_bytes"]


# ---------------------------------------------------------------------- specs


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"n_active": 9}, r"\$\.ffn\.n_active: should be at most n_experts, 8, not 9"),
        ({"n_active": 1}, r"\$\.ffn\.normalise: should be false with n_active 1"),
        ({"expert": {"type": "moe"}}, r"\$\.ffn\.expert: is a mixture of experts itself"),
        ({"expert": {"type": "mlp", "d_ff": 0}}, r"\$\.ffn\.expert\.d_ff: should be greater than 0"),
        ({"expert": {"type": "mlp", "dropout": 1.0}}, r"\$\.ffn\.expert\.dropout: should be at least 0 and below 1"),
        ({"n_shared": -1}, r"\$\.ffn\.n_shared: should be greater than or equal to 0"),
        ({"balance": {"type": "loss", "rate": 0.1}}, r"\$\.ffn\.balance\.rate: 'loss' has no option 'rate'"),
        (
            {"balance": {"type": "loss", "coefficient": 0.0}},
            r"\$\.ffn\.balance\.coefficient: should be greater than or equal to",
        ),
        ({"balance": "los"}, r"\$\.ffn\.balance: no router_balance named 'los'; did you mean 'loss'"),
        ({"scores": "relu"}, r"\$\.ffn\.scores: should be 'softmax' or 'sigmoid'"),
    ],
    ids=str,
)
def test_invalid_options_are_refused_with_their_location(options: dict[str, Any], reason: str) -> None:
    with pytest.raises(gptzoo.SpecError, match=reason):
        gptzoo.load_model_spec(moe_spec(options))


def test_a_network_with_a_state_cannot_be_an_expert(tmp_path: Path) -> None:
    file = tmp_path / "stateful.py"
    file.write_text(
        "import gptzoo\n"
        "class Stateful(gptzoo.FeedForward):\n"
        "    '''An ffn with a state.'''\n"
        "    name = 'stateful_in_a_test'\n"
        "    def new_state(self, batch_size, max_length, *, device, dtype):\n"
        "        return {}\n"
        "@gptzoo.hookimpl\n"
        "def gptzoo_components():\n"
        "    return [Stateful]\n"
    )
    gptzoo.load_plugin(file)
    with pytest.raises(gptzoo.SpecError, match=r"\$\.ffn\.expert: 'stateful_in_a_test' keeps state"):
        gptzoo.load_model_spec(moe_spec({"expert": "stateful_in_a_test"}))


def test_it_works_in_some_layers_only_and_its_experts_inherit_from_the_model() -> None:
    spec = gptzoo.load_model_spec(
        {**SMALL, "ffn": ["mlp", {"type": "moe", "expert": "glu"}], "bias": False, "activation": "silu"}
    )
    model = gptzoo.build(spec)
    assert [block.ffn.config.type for block in model.blocks] == ["mlp", "moe"]
    expert = model.blocks[1].ffn.experts[7]
    assert expert.config.activation.type == "silu"
    assert expert.down.bias is None
    assert expert.down.weight.std().item() == pytest.approx(0.02 / 2, rel=0.1)  # it writes the residual stream


def test_initial_values_differ_by_expert_and_do_not_depend_on_the_number_of_experts() -> None:
    few, many = (gptzoo.build(moe_spec({"n_experts": n})).blocks[0].ffn.experts for n in (4, 8))
    assert not torch.equal(few[0].up.weight, few[1].up.weight)
    assert all(torch.equal(few[i].up.weight, many[i].up.weight) for i in range(4))


def test_it_builds_on_the_meta_device() -> None:
    model = gptzoo.build(moe_spec({"balance": "bias"}), device="meta")
    assert all(tensor.is_meta for tensor in (*model.parameters(), *model.buffers()))


def test_the_installed_package_registers_its_components() -> None:
    (entry,) = importlib.metadata.entry_points(group="gptzoo", name="moe")
    assert entry.load() is gptzoo_moe
    assert gptzoo.registered("ffn")["moe"] is MixtureOfExperts
    assert set(gptzoo.registered("router_balance")) == {"bias", "loss"}


def test_all_specs_in_the_readme_load() -> None:
    readme = (Path(__file__).parent.parent / "README.md").read_text()
    snippets = re.findall(r"```json\n(.*?)```", readme, re.DOTALL)
    assert snippets
    for snippet in snippets:
        gptzoo.load_model_spec({**SMALL, **json.loads(snippet)})


@pytest.mark.slow
def test_compiled_blocks_equal_eager_blocks_for_any_load() -> None:
    model = model_of({"balance": "bias"}).train()
    batches = [tokens_of(12).roll(shift) for shift in range(6)]

    def run() -> list[Tensor]:
        model.zero_grad()
        losses = [model(tokens, tokens.roll(-1, 1))[1] for tokens in batches]
        sum(losses).backward()
        return [*(loss.detach() for loss in losses), *(parameter.grad.clone() for parameter in model.parameters())]

    expected = run()
    torch._dynamo.reset()
    graphs = []

    def backend(graph: Any, example: Any) -> Any:
        graphs.append(graph)
        return graph

    for block in model.blocks:
        block.compile(backend=backend)
    first = run()
    n_graphs = len(graphs)
    second = run()
    torch._dynamo.reset()
    assert len(graphs) == n_graphs
    for compiled in (first, second):
        for actual, eager in zip(compiled, expected, strict=True):
            torch.testing.assert_close(actual, eager, rtol=1e-5, atol=1e-6)
