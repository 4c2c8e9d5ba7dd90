"""Load balancing: the loss of Switch Transformers, the bias of loss-free balancing, and training with both."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from gptzoo_moe import BiasBalance, LossBalance

import gptzoo

SMALL: dict[str, Any] = {"vocab_size": 13, "context_length": 16, "d_model": 32, "n_layers": 1, "n_heads": 4}


def model_of(**options: Any) -> Any:
    return gptzoo.build({**SMALL, "ffn": {"type": "moe", "expert": {"type": "mlp", "d_ff": 24}, **options}})


# ---------------------------------------------------------------------- the loss


def test_the_loss_is_coefficient_times_experts_times_the_product_of_load_and_share() -> None:
    balance = LossBalance.Config(coefficient=0.5).build(4)
    load, share = torch.tensor([0.5, 0.25, 0.25, 0.0]), torch.tensor([0.4, 0.3, 0.2, 0.1])
    expected = 0.5 * 4 * (0.5 * 0.4 + 0.25 * 0.3 + 0.25 * 0.2)
    assert balance.losses(load, share)["balance"].item() == pytest.approx(expected)


def test_the_loss_equals_the_coefficient_at_an_even_load() -> None:
    even = torch.full((8,), 1 / 8)
    assert LossBalance.Config(coefficient=0.03).build(8).losses(even, even)["balance"].item() == pytest.approx(0.03)


def test_the_loss_is_added_to_the_cross_entropy_in_training_only() -> None:
    model = model_of(balance={"type": "loss", "coefficient": 0.1})
    tokens = torch.randint(13, (2, 9), generator=torch.Generator().manual_seed(1))
    auxiliary = gptzoo.AuxiliaryOutputs()
    training = model.train()(tokens, tokens, auxiliary=auxiliary)[1]
    evaluated = model.eval()(tokens, tokens)[1]
    assert set(auxiliary.losses) == {"blocks.0.ffn.balance"}
    torch.testing.assert_close(training - evaluated, auxiliary.losses["blocks.0.ffn.balance"])


# ---------------------------------------------------------------------- the bias


def test_the_bias_moves_against_the_load_by_the_rate() -> None:
    balance = BiasBalance.Config(rate=0.01).build(4)
    balance.initialise(None)
    balance.after_optimizer_step(torch.tensor([0.7, 0.25, 0.05, 0.0]))
    torch.testing.assert_close(balance.bias, torch.tensor([-0.01, 0.0, 0.01, 0.01]))
    balance.after_optimizer_step(torch.tensor([0.1, 0.3, 0.3, 0.3], dtype=torch.float64))
    torch.testing.assert_close(balance.bias, torch.tensor([0.0, -0.01, 0.0, 0.0]))


@torch.no_grad()
def test_the_bias_affects_the_selection_and_not_the_weights() -> None:
    moe = model_of(n_experts=4, n_active=1, normalise=False, balance="bias").blocks[0].ffn
    moe.balance.bias[2] = 10.0
    x = torch.randn(1, 5, 32, generator=torch.Generator().manual_seed(0))
    context = gptzoo.ForwardContext(torch.arange(5)[None], torch.nn.Identity())
    output = moe(x, context)
    weights = (x @ moe.router.weight.T).softmax(-1)[..., 2:3]
    torch.testing.assert_close(output.y, weights * moe.experts[2](x, context))
    assert output.metrics["load"].tolist() == [0, 0, 1, 0]
    assert output.losses == {}


def test_the_bias_is_saved_in_checkpoints_and_is_not_a_parameter() -> None:
    model = model_of(balance="bias")
    keys = [key for key in model.state_dict() if "balance" in key]
    assert keys == ["blocks.0.ffn.balance.bias"]
    assert not any("balance" in name for name, _ in model.named_parameters())
    assert (model.blocks[0].ffn.balance.bias == 0).all()


def test_the_mixture_passes_its_load_to_its_balance() -> None:
    moe = model_of(n_experts=4, balance={"type": "bias", "rate": 0.5}).blocks[0].ffn
    moe.after_optimizer_step({"load": torch.tensor([1.0, 0.0, 0.0, 0.0]), "imbalance": torch.tensor(4.0)})
    assert moe.balance.bias.tolist() == [-0.5, 0.5, 0.5, 0.5]


def train_with(**options: Any) -> tuple[list[float], list[float]]:
    """Train a model whose router prefers two experts at first. Return the loss and the imbalance of each step."""
    model = model_of(n_experts=6, scores="sigmoid", **options).train()
    moe = model.blocks[0].ffn
    with torch.no_grad():
        moe.router.weight.mul_(10)
        model.blocks[0].norm.layers["ffn"].bias.copy_(moe.router.weight[:2].sum(0))
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    generator = torch.Generator().manual_seed(1)
    losses, imbalances = [], []
    for _ in range(60):
        tokens = (torch.randint(13, (8, 1), generator=generator) + torch.arange(17)) % 13
        auxiliary = gptzoo.AuxiliaryOutputs()
        loss = model(tokens[:, :-1], tokens[:, 1:], auxiliary=auxiliary)[1]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        moe.after_optimizer_step(
            {name.removeprefix("blocks.0.ffn."): value for name, value in auxiliary.metrics.items()}
        )
        losses.append(loss.item())
        imbalances.append(auxiliary.metrics["blocks.0.ffn.imbalance"].item())
    return losses, imbalances


@pytest.mark.parametrize(
    "balance", [{"type": "loss", "coefficient": 0.3}, {"type": "bias", "rate": 0.01}], ids=lambda b: b["type"]
)
def test_training_lowers_the_loss_and_evens_the_load(balance: dict[str, Any]) -> None:
    losses, imbalance = train_with(balance=balance)
    _, imbalance_without_balance = train_with(balance=None)
    assert losses[-1] < 0.5 * losses[0]
    assert imbalance[0] > 2
    assert sum(imbalance[-10:]) / 10 < 1.5
    assert sum(imbalance_without_balance[-10:]) / 10 > 1.7


def test_a_run_updates_the_bias_and_records_the_load(tmp_path: Any) -> None:
    moe = {"type": "moe", "n_experts": 4, "expert": {"type": "mlp", "d_ff": 8}, "balance": "bias"}
    corpus = tmp_path / "text.txt"
    corpus.write_text("the cat sat on the mat and the dog sat on the log\n" * 40)
    run = {
        "model": {"context_length": 16, "d_model": 16, "n_layers": 1, "n_heads": 2, "ffn": moe},
        "corpus": {"type": "text", "path": str(corpus)},
        "tokenizer": "char",
        "batch_size": 4,
        "micro_batch_size": 2,
        "steps": 3,
    }
    result = gptzoo.train(run, tmp_path / "run", quiet=True)
    load = result.metrics["model/blocks.0.ffn.load"]
    assert len(load) == 4
    assert sum(load) == pytest.approx(1)
    bias = gptzoo.load(tmp_path / "run").model.blocks[0].ffn.balance.bias
    assert bias.abs().max() > 0
    assert torch.allclose(bias / 0.001, (bias / 0.001).round(), atol=1e-3)  # three steps of size rate, up or down
