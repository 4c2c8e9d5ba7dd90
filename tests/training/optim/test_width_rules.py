"""Learning rates and weight decay under parametrisation `mup`, against the paper, the package `mup`, equivalences."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from support import admit, small
from torch import nn

import gptzoo
from gptzoo.errors import InputError, SpecError
from gptzoo.model.architecture import Architecture
from gptzoo.spec.files import load_run_spec
from gptzoo.training.named_parameters import NamedParameters
from gptzoo.training.optim.lion import Lion
from gptzoo.training.optim.muon import Muon
from gptzoo.training.optim.optimizers import SGD, Adafactor, AdamW, Optimizer

BASE = {"d_model": 32, "n_heads": 4}
LR, DECAY = 0.01, 0.1


def mup(**changes: Any) -> dict[str, Any]:
    """The spec of a model that is four times as wide as its base."""
    return small(**{"d_model": 128, "parametrisation": {"type": "mup", "base": BASE}, **changes})


def groups(optimizer: type[Optimizer], model: Architecture, **options: Any) -> dict[str, dict[str, Any]]:
    """Return the options of each parameter, by name."""
    built = optimizer.Config(type=optimizer.name, **{"lr": LR, "weight_decay": DECAY, **options}).build()
    parameters = NamedParameters.of(model)
    names = {id(parameter): name for name, parameter in parameters.items()}
    created = built.create(parameters).param_groups
    return {names[id(parameter)]: group for group in created for parameter in group["params"]}


# Factors on the learning rate at four times the base width. AdamW and SGD: Yang et al. 2022, arXiv:2203.03466, Table 8.
# Lion's updates have the size of AdamW's. Adafactor's have that of the weights, which shrink with 1/sqrt(fan-in) in
# hidden layers. Muon's have a spectral norm of 1 in square matrices, as arXiv:2310.17813 asks for at every width.
TABLE = {
    AdamW: {"embed": 1, "positionals.0.table": 1, "head": 1, "qkv": 1 / 4, "down": 1 / 4, "bias": 1, "exit": 1},
    Lion: {"embed": 1, "positionals.0.table": 1, "head": 1, "qkv": 1 / 4, "down": 1 / 4, "bias": 1, "exit": 1},
    SGD: {"embed": 4, "positionals.0.table": 4, "head": 4, "qkv": 1, "down": 1, "bias": 4, "exit": 4},
    Adafactor: {"embed": 1, "positionals.0.table": 1, "head": 1, "qkv": 1 / 2, "down": 1 / 2, "bias": 1, "exit": 1},
}
NAMES = {
    "embed": "embed.weight",
    "positionals.0.table": "positionals.0.table.weight",
    "head": "head.weight",
    "qkv": "blocks.0.attention.qkv.weight",
    "down": "blocks.1.ffn.down.weight",
    "bias": "blocks.1.ffn.up.bias",
    "exit": "exit.weight",
}


@pytest.mark.parametrize("optimizer", TABLE)
def test_learning_rates_are_those_of_the_paper(optimizer: type[Optimizer]) -> None:
    actual = groups(optimizer, gptzoo.build(mup(tie_embeddings=False), device="meta"))
    for part, factor in TABLE[optimizer].items():
        group = actual[NAMES[part]]
        assert group["lr"] == pytest.approx(LR * factor), part
        if part not in ("bias", "exit"):
            assert group["weight_decay"] * group["lr"] == pytest.approx(LR * DECAY), part
        else:
            assert group["weight_decay"] == 0


def test_a_tied_embedding_is_an_input_weight() -> None:
    model = gptzoo.build(mup(), device="meta")
    assert groups(AdamW, model)["embed.weight"]["lr"] == pytest.approx(LR)
    assert groups(SGD, model)["embed.weight"]["lr"] == pytest.approx(4 * LR)


@pytest.mark.parametrize(("adjust_lr", "factor"), [("original", 1.0), ("match_rms_adamw", 0.5)])
@pytest.mark.parametrize("fused_matrices", ["separate", "together"])
def test_muon_keeps_the_spectral_norm_of_its_updates(adjust_lr: str, factor: float, fused_matrices: str) -> None:
    options = {"adjust_lr": adjust_lr, "fused_matrices": fused_matrices, "adamw_lr": 0.002}
    actual = groups(Muon, gptzoo.build(mup(ffn="glu"), device="meta"), **options)
    for name in ("blocks.0.attention.qkv.weight", "blocks.0.ffn.gate_up.weight", "blocks.0.ffn.down.weight"):
        assert actual[name]["lr"] == pytest.approx(LR * factor, rel=0.01)  # the width of a glu is rounded
        assert actual[name]["weight_decay"] * actual[name]["lr"] == pytest.approx(LR * DECAY)
    assert actual["embed.weight"]["lr"] == pytest.approx(0.002)


def test_muon_updates_a_growing_output_as_the_spectral_condition_says() -> None:
    """An MLP of fixed width: `up` has fan-in 128 instead of 32, and `down` the other way round."""
    actual = groups(Muon, gptzoo.build(mup(ffn={"type": "mlp", "d_ff": 32}), device="meta"))
    up, down = actual["blocks.0.ffn.up.weight"]["lr"], actual["blocks.0.ffn.down.weight"]["lr"]
    assert up == pytest.approx(LR * math.sqrt(1 / 4))  # torch's Muon leaves a wide matrix as it is
    assert down * math.sqrt(128 / 32) == pytest.approx(LR * math.sqrt(4))  # and multiplies a tall one by this


def test_muon_refuses_fused_matrices_that_grow_differently() -> None:
    model = gptzoo.build(mup(n_heads=16, attention={"type": "sdpa", "n_kv_heads": 2}), device="meta")
    with pytest.raises(InputError, match=r"attention.qkv.weight grow differently.*n_kv_heads"):
        groups(Muon, model)
    assert groups(AdamW, model)["blocks.0.attention.qkv.weight"]["lr"] == pytest.approx(LR / 4)


def test_eps_shrinks_with_the_gradient() -> None:
    actual = groups(AdamW, gptzoo.build(mup(tie_embeddings=False), device="meta"), eps=1e-6)
    for name in NAMES.values():
        assert actual[name]["eps"] == pytest.approx(1e-6 / 4), name


def test_at_the_base_width_the_groups_are_those_without_a_parametrisation() -> None:
    ours = gptzoo.build(mup(parametrisation={"type": "mup", "base": {"d_model": 128, "n_heads": 4}}), device="meta")
    for optimizer in (*TABLE, Muon):
        theirs = groups(optimizer, gptzoo.build(mup(parametrisation=None), device="meta"))
        for name, group in groups(optimizer, ours).items():
            assert {**group, "params": 0} == {**theirs[name], "params": 0}


@pytest.mark.parametrize("optimizer", [AdamW, SGD])
def test_groups_are_those_of_the_package_mup(optimizer: type[Optimizer]) -> None:
    package = pytest.importorskip("mup")
    spec = mup(tie_embeddings=False, n_heads=16)
    model = gptzoo.build(spec)
    sizes = {"parametrisation": None, "n_heads": 4, "d_model": 32}
    base, delta = gptzoo.build({**spec, **sizes}), gptzoo.build({**spec, **sizes, "d_model": 64, "n_heads": 8})
    package.set_base_shapes(model, base, delta=delta, rescale_params=False)
    reference = {AdamW: package.MuAdamW, SGD: package.MuSGD}[optimizer]
    actual = groups(optimizer, model)
    for name, parameter in model.named_parameters():
        decay = 0.0 if parameter.ndim < 2 else DECAY  # the package lets the caller choose
        created = reference([{"params": [parameter], "lr": LR, "weight_decay": decay}], lr=LR)
        (group,) = (group for group in created.param_groups if group["params"])
        assert actual[name]["lr"] == pytest.approx(group["lr"]), name
        assert actual[name]["weight_decay"] == pytest.approx(group["weight_decay"]), name


def test_training_is_that_of_the_equivalent_table_3() -> None:
    """Without a multiplier, an output weight, its initial values, learning rate and eps are smaller by the factor.

    Lemma J.1 of the paper: both parametrisations compute the same function after every step.
    """
    model = gptzoo.build(mup(tie_embeddings=False))
    twin = gptzoo.build(mup(tie_embeddings=False))
    factor = twin.head.scale
    assert factor == 0.25
    twin.head.scale = 1.0
    with torch.no_grad():
        twin.head.weight.mul_(factor)
    optimizer = AdamW.Config(type="adamw", lr=LR, weight_decay=DECAY).build().create(NamedParameters.of(model))
    table_3 = []
    for name, parameter in twin.named_parameters():
        in_blocks_or_head = parameter.ndim == 2 and (name.startswith("blocks") or name == "head.weight")
        lr, decay = (LR / 4, DECAY * 4) if in_blocks_or_head else (LR, DECAY)
        # The gradient of the smaller output weight is larger by the factor, those of all others are the same.
        eps = 1e-8 if name == "head.weight" else 1e-8 / 4
        decay = decay if parameter.ndim > 1 else 0
        table_3.append({"params": [parameter], "lr": lr, "weight_decay": decay, "eps": eps})
    reference = torch.optim.AdamW(table_3, betas=(0.9, 0.95))
    tokens = torch.randint(13, (4, 17), generator=torch.Generator().manual_seed(0))
    for _ in range(5):
        for of, by in ((model, optimizer), (twin, reference)):
            by.zero_grad()
            of(tokens[:, :-1], tokens[:, 1:])[1].backward()
            by.step()
    logits, expected, untrained = (
        of(tokens[:, :-1])[0] for of in (model, twin, gptzoo.build(mup(tie_embeddings=False)))
    )
    torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(logits, untrained, atol=1e-2)


class Unknown(AdamW):
    """An optimizer of a package, without a rule."""

    name = "unknown"
    width_rule = None


@pytest.mark.usefixtures("fresh_registry")
def test_an_optimizer_without_a_rule_is_refused() -> None:
    admit(Unknown)
    run = {"model": mup(vocab_size=None), "optimizer": "unknown", "steps": 1}
    with pytest.raises(SpecError, match=r"\$\.optimizer: 'unknown' does not say how its learning rate changes"):
        load_run_spec(run)
    with pytest.raises(InputError, match="'unknown' does not say"):
        groups(Unknown, gptzoo.build(mup(), device="meta"))
    load_run_spec({**run, "model": small(vocab_size=None)})


def changes(optimizer: Optimizer, width: int, *, transfers: bool) -> dict[str, float]:
    """Return the root mean square by which a few steps change the logits and the output of each block."""
    spec = mup(d_model=width) if transfers else small(d_model=width)
    squares: dict[str, float] = {}
    for seed in (1, 2):
        model = gptzoo.build(spec, seed=seed)
        tokens = torch.randint(13, (8, 17), generator=torch.Generator().manual_seed(seed))
        before = activations(model, tokens[:, :-1])
        created = optimizer.create(NamedParameters.of(model))
        for _ in range(4):
            created.zero_grad()
            model(tokens[:, :-1], tokens[:, 1:])[1].backward()
            created.step()
        for name, after in activations(model, tokens[:, :-1]).items():
            squares[name] = squares.get(name, 0) + float((after - before[name]).square().mean())
    return {name: square**0.5 for name, square in squares.items()}


def activations(model: nn.Module, tokens: torch.Tensor) -> dict[str, torch.Tensor]:
    auxiliary = gptzoo.AuxiliaryOutputs()
    with torch.no_grad():
        logits, _ = model(tokens, capture=["residual"], auxiliary=auxiliary)
    return {"logits": logits, **auxiliary.captures}


@pytest.mark.slow
@pytest.mark.parametrize(
    "config",
    [
        AdamW.Config(type="adamw", lr=0.01),
        Lion.Config(type="lion", lr=0.003),
        SGD.Config(type="sgd", lr=0.1),
        Adafactor.Config(type="adafactor", lr=0.01),
        Muon.Config(type="muon", lr=0.02, adamw_lr=0.01),
        Muon.Config(type="muon", lr=0.02, adamw_lr=0.01, adjust_lr="match_rms_adamw"),
    ],
    ids=lambda config: config.type,
)
def test_steps_change_activations_by_as_much_at_every_width(config: Any) -> None:
    """Under `mup`. Under the standard parametrisation, the change of the logits grows at least as the width^0.4."""
    exponents = {}
    for transfers in (True, False):
        narrow, wide = (changes(config.build(), width, transfers=transfers) for width in (32, 256))
        exponents[transfers] = {name: math.log(wide[name] / narrow[name]) / math.log(8) for name in narrow}
    assert all(abs(exponent) < 0.25 for exponent in exponents[True].values()), exponents[True]
    assert exponents[False]["logits"] > 0.4
    assert exponents[False]["blocks.1.residual"] > 0.4
