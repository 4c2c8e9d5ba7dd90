"""The parametrisation `mup`: initial values, multipliers, and what is refused."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from support import admit, small
from torch import Tensor, nn

import gptzoo
from gptzoo.ablation.design.enumeration import spec_digest
from gptzoo.checkpoint.model_folder import save_model
from gptzoo.cli import main
from gptzoo.eject.eject import eject_model
from gptzoo.errors import InputError, SpecError
from gptzoo.spec.canonical import canonical
from gptzoo.spec.files import load_model_spec, load_run_spec

BASE = {"d_model": 32, "n_heads": 4}
MUP = {"type": "mup", "base": BASE}


def mup(base: dict[str, Any] | None = None, **changes: Any) -> dict[str, Any]:
    return small(**{"d_model": 128, "parametrisation": {"type": "mup", "base": base or BASE}, **changes})


def standard(**changes: Any) -> dict[str, Any]:
    return small(**{"d_model": 128, **changes})


# ---------------------------------------------------------------------- specs


def test_old_specs_have_no_parametrisation() -> None:
    assert load_model_spec(small()).parametrisation is None


def test_the_digest_of_an_old_spec_stays() -> None:
    """So an ablation of an older version finds its trials again."""
    spec = load_run_spec({"model": small(), "steps": 3})
    resolved = spec.resolved()
    del resolved["name"], resolved["model"]["name"], resolved["model"]["parametrisation"]
    old = json.dumps(resolved, sort_keys=True, separators=(",", ":"))
    assert spec_digest(spec) == hashlib.sha256(old.encode()).hexdigest()
    assert spec_digest(spec) != spec_digest(load_run_spec({"model": small(parametrisation=MUP), "steps": 3}))


def test_a_spec_reads_back_and_has_a_hash() -> None:
    spec = load_model_spec(mup())
    again = load_model_spec(json.loads(json.dumps(spec.resolved())))
    assert again == spec
    assert hash(again) == hash(spec)


def test_inherited_options_scale_with_the_base() -> None:
    spec = load_model_spec(mup({"d_model": 32, "n_heads": 4}, n_heads=16))
    assert spec.at_base_width().attention.n_kv_heads == 4
    grouped = load_model_spec(mup(n_heads=16, attention={"type": "sdpa", "n_kv_heads": 2}))
    assert grouped.at_base_width().attention.n_kv_heads == 2


def test_the_base_may_change_options_of_components() -> None:
    spec = load_model_spec(mup({**BASE, "ffn.d_ff": 64}, ffn={"type": "mlp", "d_ff": 256}))
    assert spec.at_base_width().ffn.d_ff == 64
    model = gptzoo.build(spec, device="meta")
    assert model.width_scalings["blocks.0.ffn.up.weight"].role == "hidden"


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"parametrisation": {"type": "mup", "base": {"d_model": 32}}}, ["base.n_heads", "is required"]),
        ({"parametrisation": {"type": "mup", "base": {**BASE, "n_layers": 1}}}, ["base.n_layers", "not a width"]),
        ({"parametrisation": {"type": "mup", "base": {**BASE, "n_heads": 3}}}, ["no such model", "n_heads"]),
        ({"parametrisation": {"type": "mup", "base": {**BASE, "ffn.width": 3}}}, ["no such model", "width"]),
        ({"parametrisation": {"type": "mup", "base": {**BASE, "width": 3}}}, ["no such model", "width"]),
        ({"parametrisation": {"type": "mupp", "base": BASE}}, ["parametrisation.type", "mup"]),
        ({"positional": "sinusoidal"}, ["$.positional", "not defined under parametrisation 'mup'", "scale_tokens"]),
        ({"architecture": {"type": "decoder", "head_bias": True}}, ["$.architecture", "head_bias"]),
    ],
)
def test_refused_specs(changes: dict[str, Any], expected: list[str]) -> None:
    with pytest.raises(SpecError) as error:
        load_model_spec(mup(**changes))
    assert all(text in str(error.value) for text in expected), str(error.value)


class SelfMade(gptzoo.Attention):
    """An attention that says nothing about its scores."""

    name = "self_made"

    def __init__(self, config: gptzoo.Config, dims: gptzoo.Dims):
        super().__init__(config, dims)
        self.out = nn.Linear(dims.d_model, dims.d_model)

    def forward(self, x: Tensor, context: gptzoo.ForwardContext, state: gptzoo.State | None = None) -> Tensor:
        return self.out(x)  # type: ignore[no-any-return]


@pytest.mark.usefixtures("fresh_registry")
def test_an_attention_without_a_factor_needs_heads_of_the_same_width() -> None:
    admit(SelfMade)
    with pytest.raises(SpecError, match="'self_made' does not scale its scores with the width of a head"):
        load_model_spec(mup(attention="self_made", positional="none"))
    gptzoo.build(mup(attention="self_made", positional="none", n_heads=16))


# ---------------------------------------------------------------------- initial values


def test_at_the_base_width_nothing_changes() -> None:
    ours = gptzoo.build(mup({"d_model": 128, "n_heads": 4})).state_dict()
    theirs = gptzoo.build(standard()).state_dict()
    assert ours.keys() == theirs.keys()
    assert all(tensor.equal(theirs[name]) for name, tensor in ours.items())


# Yang et al. 2022, arXiv:2203.03466, Table 8, with a width four times the base: the variance of input weights, biases
# and of output weights that a multiplier follows stays the same, and that of hidden weights falls with the fan-in.
FACTORS = {"embed": 1, "positionals.0.table": 1, "head": 1, "attention.qkv": 0.5, "attention.out": 0.5, "ffn.up": 0.5}


@pytest.mark.parametrize("tied", [True, False])
def test_initial_values_are_those_of_table_8(tied: bool) -> None:
    ours = dict(gptzoo.build(mup(tie_embeddings=tied)).named_parameters())
    theirs = dict(gptzoo.build(standard(tie_embeddings=tied)).named_parameters())
    seen = set()
    for name, value in ours.items():
        for suffix, factor in FACTORS.items():
            if name.endswith(f"{suffix}.weight"):
                seen.add(suffix)
                torch.testing.assert_close(value, theirs[name] * factor)
    assert seen == FACTORS.keys() - ({"head"} if tied else set())


class Gates(gptzoo.FeedForward):
    """A network with matrices of its own: a stack of hidden ones, and an output weight without a multiplier."""

    name = "gates"

    def __init__(self, config: gptzoo.Config, dims: gptzoo.Dims):
        super().__init__(config, dims)
        self.experts = nn.Parameter(torch.empty(3, dims.d_model, dims.d_model))
        self.router = nn.Parameter(torch.empty(dims.d_model, 3))  # (in, out)

    def initialise(self, rng: gptzoo.Rng) -> None:
        nn.init.normal_(self.experts, std=self.dims.d_model**-0.5, generator=rng("experts"))
        nn.init.normal_(self.router, std=0.1, generator=rng("router"))

    def forward(self, x: Tensor, context: gptzoo.ForwardContext, state: gptzoo.State | None = None) -> Tensor:
        weights = (x @ self.router).softmax(-1)
        return torch.einsum("btc,edc,bte->btd", x, self.experts, weights)


class DeclaredGates(Gates):
    """The same, with the inputs of its matrices."""

    name = "declared_gates"

    def fans(self) -> dict[str, gptzoo.Fans]:
        return {"experts": gptzoo.Fans(inputs=(2,), scales_initial_values=True), "router": gptzoo.Fans(inputs=(0,))}


class WrongGates(Gates):
    """The same, with inputs of a dimension that does not exist."""

    name = "wrong_gates"

    def fans(self) -> dict[str, gptzoo.Fans]:
        return {"router": gptzoo.Fans(inputs=(2,))}


@pytest.mark.usefixtures("fresh_registry")
def test_a_part_declares_the_inputs_of_its_own_matrices() -> None:
    admit(Gates, DeclaredGates, WrongGates)
    with pytest.raises(InputError, match=r"blocks.0.ffn.experts .*fans\(\)"):
        gptzoo.build(mup(ffn="gates"))
    with pytest.raises(RuntimeError, match=r"declares router with inputs \(2,\)"):
        gptzoo.build(mup(ffn="wrong_gates"))
    ours = gptzoo.build(mup(ffn="declared_gates"))
    theirs = gptzoo.build(standard(ffn="declared_gates"))
    roles = {name: scaling.role for name, scaling in ours.width_scalings.items()}
    assert roles["blocks.0.ffn.experts"] == "hidden"
    assert roles["blocks.0.ffn.router"] == "output"
    assert roles["blocks.0.attention.qkv.bias"] == "vector"
    assert roles["embed.weight"] == "input"
    for name, factor in (("experts", 1.0), ("router", 0.25)):  # Table 3: the variance of outputs is 1 / fan-in^2
        name = f"blocks.0.ffn.{name}"
        torch.testing.assert_close(ours.get_parameter(name), theirs.get_parameter(name) * factor)


# ---------------------------------------------------------------------- multipliers


def test_multipliers_are_options_of_the_same_function() -> None:
    spec = load_model_spec(mup())
    plain = spec.with_multipliers()
    assert plain.parametrisation is None
    assert plain.architecture.logit_scale == 0.25  # 32 / 128
    assert plain.attention.scale == pytest.approx(8**-0.5 * 8 / 32)  # heads of width 8 at the base
    assert canonical(spec) == canonical(plain)
    tokens = torch.arange(12)[None]
    ours, theirs = gptzoo.build(spec).eval(), gptzoo.build(plain).eval()
    theirs.load_state_dict(ours.state_dict())
    assert ours(tokens)[0].equal(theirs(tokens)[0])
    default = gptzoo.build(standard()).eval()
    default.load_state_dict(ours.state_dict())
    assert not ours(tokens)[0].allclose(default(tokens)[0])


def test_more_heads_of_the_same_width_keep_their_scale() -> None:
    assert load_model_spec(mup(n_heads=16)).with_multipliers().attention.scale is None


def test_a_model_folder_keeps_the_parametrisation(tmp_path: Path) -> None:
    model = gptzoo.build(mup()).eval()
    save_model(tmp_path / "model", model)
    loaded = gptzoo.load(tmp_path / "model").model.eval()
    assert loaded.spec == model.spec
    tokens = torch.arange(12)[None]
    assert loaded(tokens)[0].equal(model(tokens)[0])


@pytest.mark.slow
def test_an_ejected_file_has_the_multipliers() -> None:
    text = eject_model(gptzoo.build(mup()))  # which compares the results of both
    assert "0.25" in text


def test_build_names_the_base_width(tmp_path: Path) -> None:
    (tmp_path / "model.json").write_text(json.dumps(mup()))
    result = CliRunner().invoke(main, ["build", str(tmp_path / "model.json")])
    assert result.exit_code == 0
    assert "mup from d_model 32 with 4 heads" in result.stdout
