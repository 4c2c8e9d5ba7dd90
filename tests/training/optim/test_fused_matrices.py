"""Muon on matrices that a layer holds in one parameter: each is trained as if it were a parameter of its own."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from support import small
from torch import Tensor, nn

import gptzoo
from gptzoo import registry
from gptzoo.components.part import FusedBlocks
from gptzoo.errors import FolderError
from gptzoo.model.fused_blocks import fused_blocks
from gptzoo.training.named_parameters import NamedParameters, matrix_rows
from gptzoo.training.optim.muon import Muon

PARTS: dict[tuple[str, str], dict[str, Any]] = {  # options with matrices of different sizes
    ("attention", "sdpa"): {"n_kv_heads": 2},
    ("attention", "naive"): {"n_kv_heads": 1},
    ("ffn", "glu"): {"d_ff": 24},
}
N_STEPS = 3


def fused_parts() -> set[tuple[str, str]]:
    """Return the built-in attentions and networks whose model has a fused parameter of theirs."""
    found = set()
    for kind in ("attention", "ffn"):
        for name in registry.discover("none").of_kind(kind):
            model = gptzoo.build(small(**{kind: name}), device="meta")
            if any(f".{kind}." in parameter for parameter in fused_blocks(model)):
                found.add((kind, name))
    return found


def test_these_parts_have_fused_parameters() -> None:
    assert fused_parts() == set(PARTS)


def orthogonalised(matrix: Tensor) -> Tensor:
    """The published quintic iteration, kellerjordan.github.io/posts/muon, in full precision."""
    x = matrix.double() / matrix.double().norm().clamp(min=1e-7)
    x = x.T if matrix.shape[0] > matrix.shape[1] else x
    for _ in range(5):
        gram = x @ x.T
        x = 3.4445 * x + (-4.7750 * gram + 2.0315 * gram @ gram) @ x
    return x.T if matrix.shape[0] > matrix.shape[1] else x


class SeparateMuon:
    """Muon by its published description, on one matrix."""

    def __init__(self, value: Tensor, config: Any):
        self.value, self.mean, self.config = value.double(), torch.zeros_like(value, dtype=torch.float64), config

    def step(self, gradient: Tensor) -> None:
        config, (n_rows, n_columns) = self.config, self.value.shape
        self.mean = config.momentum * self.mean + (1 - config.momentum) * gradient
        direction = config.momentum * self.mean + (1 - config.momentum) * gradient if config.nesterov else self.mean
        scale = {
            "original": max(1.0, n_rows / n_columns) ** 0.5,
            "match_rms_adamw": 0.2 * max(n_rows, n_columns) ** 0.5,
        }[config.adjust_lr]
        self.value = self.value * (1 - config.lr * config.weight_decay)
        self.value = self.value - config.lr * scale * orthogonalised(direction)


def own_parameters(kind: str, name: str) -> NamedParameters:
    torch.manual_seed(0)
    model = gptzoo.build(small(**{kind: {"type": name, **PARTS[kind, name]}}))
    parameters = NamedParameters.of(model)
    return NamedParameters(
        {of: parameters[of] for of in parameters.matrix_rows if f".{kind}." in of}, fused_blocks(model)
    )


@pytest.mark.parametrize("adjust_lr", ["original", "match_rms_adamw"])
@pytest.mark.parametrize(("kind", "name"), PARTS)
def test_a_fused_parameter_is_trained_like_separate_matrices(kind: str, name: str, adjust_lr: str) -> None:
    """The references are Muon in double precision, and torch's Muon on tensors that `split` has made."""
    config: Any = Muon.Config(lr=0.1, weight_decay=0.3, adjust_lr=adjust_lr, nesterov=kind == "ffn")
    parameters = own_parameters(kind, name)
    assert len(parameters) == 2  # of two layers
    attention_sizes = [32, 8 * PARTS[kind, name].get("n_kv_heads", 0), 8 * PARTS[kind, name].get("n_kv_heads", 0)]
    sizes = attention_sizes if kind == "attention" else [24, 24]
    chunks = {of: [nn.Parameter(m.clone()) for m in p.detach().split(sizes)] for of, p in parameters.items()}
    by_hand = {of: [SeparateMuon(matrix.detach(), config) for matrix in matrices] for of, matrices in chunks.items()}
    initial = {of: parameter.detach().clone() for of, parameter in parameters.items()}
    torchs = torch.optim.Muon(
        [matrix for matrices in chunks.values() for matrix in matrices],
        lr=0.1,
        weight_decay=0.3,
        momentum=config.momentum,
        nesterov=config.nesterov,
        adjust_lr_fn=adjust_lr,
    )
    optimizer = config.build().create(parameters)
    generator = torch.Generator().manual_seed(5)
    for _ in range(N_STEPS):
        for of, parameter in parameters.items():
            parameter.grad = torch.randn(parameter.shape, generator=generator)
            for matrix, gradient in zip(chunks[of], parameter.grad.split(sizes), strict=True):
                matrix.grad = gradient.clone()
            for reference, gradient in zip(by_hand[of], parameter.grad.split(sizes), strict=True):
                reference.step(gradient)
        optimizer.step()
        torchs.step()
    for of, parameter in parameters.items():
        torch.testing.assert_close(parameter.detach(), torch.cat([*chunks[of]]).detach(), rtol=1e-6, atol=1e-6)
        expected = torch.cat([reference.value for reference in by_hand[of]])
        change = (expected - initial[of]).norm()
        assert (parameter - expected).norm() < 0.02 * change  # torch iterates in bfloat16
        assert parameter.grad is not None


def test_a_step_that_fails_leaves_every_gradient_in_place() -> None:
    parameters = own_parameters("attention", "sdpa")
    optimizer = Muon.Config().build().create(parameters)
    first, second = parameters.values()
    first.grad, second.grad = torch.ones_like(first), torch.ones_like(second)
    kept = first.grad
    other = nn.Parameter(torch.ones(4, 4))
    other.grad = torch.ones(4, 4).to_sparse()  # torch's Muon refuses it
    optimizer.param_groups[0]["params"].append(other)
    with pytest.raises(RuntimeError, match="sparse"):
        optimizer.step()
    assert first.grad is kept
    assert second.grad is not None


def test_heads_that_alternate_are_gathered_to_matrices() -> None:
    """Rows of keys and values of head after head: as in latent attention."""
    generator = torch.Generator().manual_seed(0)
    value, gradient = (torch.randn(15, 8, generator=generator) for _ in range(2))
    blocks = FusedBlocks((2, 3), repeats=3)
    parameters = NamedParameters({"blocks.0.attention.kv.weight": nn.Parameter(value.clone())}, {KV: blocks})
    keys, values = [0, 1, 5, 6, 10, 11], [2, 3, 4, 7, 8, 9, 12, 13, 14]
    assert [rows.tolist() for rows in matrix_rows(parameters)[KV]] == [keys, values]
    separate = [nn.Parameter(value[rows]) for rows in (keys, values)]
    for matrix, rows in zip(separate, (keys, values), strict=True):
        matrix.grad = gradient[rows]
    parameters[KV].grad = gradient
    Muon.Config().build().create(parameters).step()
    torch.optim.Muon(separate, lr=0.02, weight_decay=0.01, adjust_lr_fn="original").step()
    for matrix, rows in zip(separate, (keys, values), strict=True):
        torch.testing.assert_close(parameters[KV][rows], matrix, rtol=1e-6, atol=1e-6)


KV = "blocks.0.attention.kv.weight"


def updates(fused_matrices: str, parameters: Mapping[str, nn.Parameter]) -> dict[str, Tensor]:
    before = {name: parameter.detach().clone() for name, parameter in parameters.items()}
    generator = torch.Generator().manual_seed(2)
    for parameter in parameters.values():
        parameter.grad = torch.randn(parameter.shape, generator=generator)
    Muon.Config(fused_matrices=fused_matrices).build().create(parameters).step()
    return {name: parameter.detach() - before[name] for name, parameter in parameters.items()}


def test_together_is_bitwise_torchs_muon_on_the_whole_parameter() -> None:
    whole = updates("together", own_parameters("ffn", "glu"))
    plain = updates("separate", dict(own_parameters("ffn", "glu")))  # an ordinary dict declares nothing
    separate = updates("separate", own_parameters("ffn", "glu"))
    for name in whole:
        assert torch.equal(whole[name], plain[name])
        assert (whole[name] - separate[name]).norm() > 0.1 * whole[name].norm()


@pytest.mark.parametrize(
    ("blocks", "reason"),
    [
        ({"up.bias_": (3, 4)}, "declares up.bias_, but the part has no such parameter"),
        ({"up.weight": (3, 4)}, "with 7 rows in its blocks, but the parameter has 128 rows"),
        ({"up.weight": (128,)}, "expected two or more, each at least 1"),
        ({"up.weight": (128, 0)}, "expected two or more, each at least 1"),
    ],
)
def test_a_wrong_declaration_is_reported(
    monkeypatch: pytest.MonkeyPatch, blocks: dict[str, tuple[int, ...]], reason: str
) -> None:
    mlp: Any = registry.discover("none").of_kind("ffn")["mlp"]
    monkeypatch.setattr(mlp, "fused_blocks", lambda self: {name: FusedBlocks(of) for name, of in blocks.items()})
    with pytest.raises(RuntimeError, match=reason):
        fused_blocks(gptzoo.build(small(ffn="mlp"), device="meta"))


# ---------------------------------------------------------------------- runs of the version before the option


@pytest.fixture
def muon_spec(run_spec: dict[str, Any]) -> dict[str, Any]:
    return {**run_spec, "optimizer": {"type": "muon", "lr": 0.02}, "steps": 6, "checkpoint": {"every": 3}}


def make_old(run: Path) -> None:
    """Make run.json as the version before the option wrote it."""
    spec = json.loads((run / "run.json").read_text())
    assert spec["optimizer"].pop("fused_matrices") == "together"
    (record,) = (record for record in spec["$components"] if record["path"] == "$.optimizer")
    record["config_version"] = 1
    (run / "run.json").write_text(json.dumps(spec))


def weights(run: Path) -> dict[str, Tensor]:
    return load_file(run / "checkpoints" / "step-00000006" / "model.safetensors")


def test_an_old_run_resumes_bit_by_bit_with_its_old_spec(
    muon_spec: dict[str, Any], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    together = {**muon_spec, "optimizer": {**muon_spec["optimizer"], "fused_matrices": "together"}}
    gptzoo.train(together, tmp_path / "whole", quiet=True)
    gptzoo.train(together, tmp_path / "old", until=3, quiet=True)
    make_old(tmp_path / "old")
    assert gptzoo.load_run_spec(tmp_path / "old" / "run.json").optimizer.fused_matrices == "together"
    capfd.readouterr()
    gptzoo.train(muon_spec, tmp_path / "old", resume=True)
    assert "$.optimizer.fused_matrices: stays 'together'" in "".join(capfd.readouterr())
    whole, old = weights(tmp_path / "whole"), weights(tmp_path / "old")
    assert all(torch.equal(whole[name], old[name]) for name in whole)


def test_an_old_run_with_another_change_is_still_refused(muon_spec: dict[str, Any], tmp_path: Path) -> None:
    together = {**muon_spec, "optimizer": {**muon_spec["optimizer"], "fused_matrices": "together"}}
    gptzoo.train(together, tmp_path / "old", until=3, quiet=True)
    make_old(tmp_path / "old")
    muon_spec["optimizer"]["lr"] = 0.01
    with pytest.raises(FolderError, match=r"has another spec: \$\.optimizer\.lr was 0\.02, is 0\.01"):
        gptzoo.train(muon_spec, tmp_path / "old", resume=True, quiet=True)


def test_states_of_both_ways_have_the_same_form(muon_spec: dict[str, Any], tmp_path: Path) -> None:
    """A run may change from one to the other, because the momentum has the shape of the parameter."""
    gptzoo.train(muon_spec, tmp_path / "run", until=3, quiet=True)
    muon_spec["optimizer"]["fused_matrices"] = "together"
    gptzoo.train(muon_spec, tmp_path / "run", override=True, quiet=True)
    (change,) = (json.loads(line) for line in (tmp_path / "run" / "changes.jsonl").read_text().splitlines())
    assert change["changes"] == ['$.optimizer.fused_matrices was "separate", is "together"']
    state = load_file(tmp_path / "run" / "checkpoints" / "step-00000006" / "optimizer.safetensors")
    model = weights(tmp_path / "run")
    name = "blocks.0.attention.qkv.weight"
    assert state[f"{name}|momentum_buffer"].shape == model[name].shape
