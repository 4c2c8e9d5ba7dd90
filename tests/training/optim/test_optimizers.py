"""Optimizers: updates compared with references, parameter groups, and bitwise resuming."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from runs import Killed, die_at
from safetensors.torch import load_file
from support import small
from torch import Tensor, nn

import gptzoo
import gptzoo.testing
from gptzoo import registry
from gptzoo.checkpoint.checkpoints import newest_valid_checkpoint
from gptzoo.errors import SpecError
from gptzoo.training.optim.lion import Lion
from gptzoo.training.optim.muon import Muon
from gptzoo.training.optim.optimizers import SGD, Adafactor, AdamW, Optimizer, decay_groups
from gptzoo.training.optim.param_groups import lr_scales
from gptzoo.training.run.checkpoint_state import read_checkpoint_state, write_checkpoint_state
from gptzoo.training.run.verify_resume import differences

BUILTIN: Mapping[str, Any] = registry.discover("none").of_kind("optimizer")
OPTIMIZERS = list(BUILTIN)


def parameters_of(**changes: Any) -> dict[str, nn.Parameter]:
    return dict(gptzoo.build(small(**changes)).named_parameters())


def set_gradients(parameters: Mapping[str, nn.Parameter], seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    for parameter in parameters.values():
        parameter.grad = torch.randn(parameter.shape, generator=generator)


def assert_same_updates(optimizer: Optimizer, reference: Any, n_steps: int = 4) -> None:
    """Compare the updates of two optimizers. `reference` takes the parameters and returns an object with `step()`."""
    a, b = parameters_of(), parameters_of()
    optimizers = ((a, optimizer.create(a)), (b, reference(b)))
    for step in range(n_steps):
        for parameters, torch_optimizer in optimizers:
            set_gradients(parameters, step)
            torch_optimizer.step()
    for name in a:
        torch.testing.assert_close(
            a[name], b[name], rtol=1e-6, atol=1e-7, msg=lambda text, name=name: f"{name}: {text}"
        )


def matrices_and_vectors(parameters: Mapping[str, nn.Parameter], weight_decay: float) -> list[dict[str, Any]]:
    matrices = [p for p in parameters.values() if p.ndim > 1]
    vectors = [p for p in parameters.values() if p.ndim == 1]
    return [{"params": matrices, "weight_decay": weight_decay}, {"params": vectors, "weight_decay": 0.0}]


# ---------------------------------------------------------------------- updates


def test_adamw_equals_torchs() -> None:
    config = AdamW.Config(lr=0.1, betas=(0.8, 0.9), eps=1e-3, weight_decay=0.2)
    assert_same_updates(
        config.build(),
        lambda p: torch.optim.AdamW(matrices_and_vectors(p, 0.2), lr=0.1, betas=(0.8, 0.9), eps=1e-3, fused=False),
    )


@pytest.mark.parametrize("nesterov", [False, True])
def test_sgd_equals_torchs(nesterov: bool) -> None:
    config = SGD.Config(lr=0.1, momentum=0.7, nesterov=nesterov, weight_decay=0.2)
    assert_same_updates(
        config.build(),
        lambda p: torch.optim.SGD(matrices_and_vectors(p, 0.2), lr=0.1, momentum=0.7, nesterov=nesterov, fused=False),
    )


@pytest.mark.parametrize("nesterov", [False, True])
def test_sgd_starts_the_momentum_of_a_parameter_with_its_first_gradient(nesterov: bool) -> None:
    parameters = {"late": nn.Parameter(torch.ones(3, 2)), "early": nn.Parameter(torch.ones(3, 2))}
    optimizer = SGD.Config(lr=0.1, momentum=0.9, nesterov=nesterov).build().create(parameters)
    value, momentum = torch.ones(3, 2, dtype=torch.float64), None
    for step in range(4):
        gradient = torch.full((3, 2), step + 1.0)
        parameters["early"].grad = gradient.clone()
        parameters["late"].grad = gradient.clone() if step > 1 else None
        optimizer.step()
        if step > 1:  # the recurrence of the paper, from the first gradient on
            momentum = gradient if momentum is None else 0.9 * momentum + gradient
            value = value - 0.1 * (gradient + 0.9 * momentum if nesterov else momentum)
        torch.testing.assert_close(parameters["late"].double(), value, rtol=1e-6, atol=1e-6)


def test_adafactor_equals_torchs() -> None:
    config = Adafactor.Config(lr=0.05, beta2_decay=-0.5, clip_threshold=1.2, min_scale=0.01, weight_decay=0.2)
    assert_same_updates(
        config.build(),
        lambda p: torch.optim.Adafactor(
            matrices_and_vectors(p, 0.2), lr=0.05, beta2_decay=-0.5, d=1.2, eps=(None, 0.01)
        ),
    )


class ScalarLion:
    """Program 1 of arXiv:2302.06675, one number at a time."""

    def __init__(self, parameters: Mapping[str, nn.Parameter]):
        self.parameters = parameters
        self.means = {name: [0.0] * parameter.numel() for name, parameter in parameters.items()}

    def step(self) -> None:
        lr, beta1, beta2, weight_decay = 0.02, 0.8, 0.95, 0.3
        for name, parameter in self.parameters.items():
            assert parameter.grad is not None
            decay = weight_decay if parameter.ndim > 1 else 0.0
            values = parameter.detach().flatten().tolist()
            for index, grad in enumerate(parameter.grad.flatten().tolist()):
                mean = self.means[name][index]
                update = math.copysign(1.0, beta1 * mean + (1 - beta1) * grad)
                values[index] -= lr * (update + decay * values[index])
                self.means[name][index] = beta2 * mean + (1 - beta2) * grad
            with torch.no_grad():
                parameter.copy_(torch.tensor(values).view_as(parameter))


def test_lion_equals_the_program_of_the_paper() -> None:
    config = Lion.Config(lr=0.02, betas=(0.8, 0.95), weight_decay=0.3)
    assert_same_updates(config.build(), ScalarLion)


def muon_updates(config: Any, shapes: Iterable[tuple[int, int]]) -> dict[tuple[int, int], list[tuple[Tensor, Tensor]]]:
    """Return the gradients and updates of two steps, for a matrix of each shape in a block."""
    parameters = {f"blocks.0.m{i}.weight": nn.Parameter(torch.zeros(shape)) for i, shape in enumerate(shapes)}
    optimizer = config.build().create(parameters)
    updates: dict[tuple[int, int], list[tuple[Tensor, Tensor]]] = {tuple(p.shape): [] for p in parameters.values()}
    for step in range(2):
        before = {name: parameter.detach().clone() for name, parameter in parameters.items()}
        set_gradients(parameters, step)
        optimizer.step()
        for name, p in parameters.items():
            updates[tuple(p.shape)].append((p.grad.clone(), p.detach() - before[name]))
    return updates


@pytest.mark.parametrize("nesterov", [False, True])
def test_muon_updates_are_the_orthogonal_factor_of_the_momentum(nesterov: bool) -> None:
    """The update is U V^T of the singular value decomposition, with singular values of about 1."""
    config = Muon.Config(lr=0.5, momentum=0.9, nesterov=nesterov, weight_decay=0.0)
    for shape, steps in muon_updates(config, [(8, 32), (32, 8), (16, 16)]).items():
        momentum = torch.zeros(shape)
        for grad, update in steps:
            momentum = 0.9 * momentum + 0.1 * grad
            u, _, v = torch.linalg.svd(0.9 * momentum + 0.1 * grad if nesterov else momentum, full_matrices=False)
            orthogonal = update / (-0.5 * max(1.0, shape[0] / shape[1]) ** 0.5)
            singular = torch.linalg.svdvals(orthogonal)
            if shape != (16, 16):  # a square matrix has singular values near 0, which stay there
                assert 0.6 < singular.min() < singular.max() < 1.3
            rotated = u.T @ orthogonal @ v.T  # diagonal if the directions are those of the momentum
            assert (rotated - rotated.diag().diag()).abs().max() < 0.03
            assert torch.nn.functional.cosine_similarity(orthogonal.flatten(), (u @ v).flatten(), dim=0) > 0.95


def test_muon_iterates_with_the_published_quintic() -> None:
    """The polynomial of kellerjordan.github.io/posts/muon, in full precision."""
    shape = (6, 24)
    for n_steps in (1, 5):
        config = Muon.Config(lr=1.0, momentum=0.0, ns_steps=n_steps, weight_decay=0.0)
        grad, update = muon_updates(config, [shape])[shape][0]
        x = grad / grad.norm()
        for _ in range(n_steps):
            gram = x @ x.T
            x = 3.4445 * x + (-4.7750 * gram + 2.0315 * gram @ gram) @ x
        torch.testing.assert_close(-update, x, rtol=0, atol=0.02)  # torch iterates in bfloat16


def test_muon_can_match_the_update_size_of_adamw() -> None:
    config = Muon.Config(lr=1.0, adjust_lr="match_rms_adamw", weight_decay=0.0)
    for steps in muon_updates(config, [(8, 32), (32, 8), (16, 64)]).values():
        assert steps[0][1].square().mean().sqrt() == pytest.approx(0.2, abs=0.04)


def test_muon_uses_only_the_optimizers_that_have_parameters() -> None:
    vector, matrix = nn.Parameter(torch.zeros(3)), nn.Parameter(torch.zeros(3, 3))
    (group,) = Muon.Config().build().create({"exit.weight": vector}).param_groups
    assert group["algorithm"] == "AdamW"
    (group,) = Muon.Config().build().create({"blocks.0.ffn.up.weight": matrix}).param_groups
    assert group["algorithm"] == "Muon"


# ---------------------------------------------------------------------- parameter groups


def algorithms(parameters: Mapping[str, nn.Parameter]) -> dict[str, str]:
    algorithm_of = {}
    names = {id(parameter): name for name, parameter in parameters.items()}
    for group in Muon.Config().build().create(parameters).param_groups:
        algorithm_of |= {names[id(parameter)]: group["algorithm"] for parameter in group["params"]}
    return algorithm_of


@pytest.mark.parametrize("tied", [True, False])
def test_muon_updates_matrices_in_blocks_and_adamw_everything_else(tied: bool) -> None:
    algorithm_of = algorithms(parameters_of(n_layers=2, tie_embeddings=tied, positional="learned"))
    matrices = {"attention.qkv.weight", "attention.out.weight", "ffn.up.weight", "ffn.down.weight"}
    expected = {f"blocks.{layer}.{name}" for layer in (0, 1) for name in matrices}
    assert {name for name, algorithm in algorithm_of.items() if algorithm == "Muon"} == expected
    outside = {name for name in algorithm_of if not name.startswith("blocks.")}
    assert outside >= {"embed.weight", "positionals.0.table.weight", "exit.weight"}
    assert ("head.weight" in outside) == (not tied)
    assert {algorithm_of[name] for name in outside} == {"AdamW"}
    assert algorithm_of["blocks.1.norm.layers.ffn.weight"] == algorithm_of["blocks.0.ffn.up.bias"] == "AdamW"


def test_muon_leaves_convolutions_to_adamw_and_supports_encoders() -> None:
    shapes = {
        "blocks.0.mixer.taps": (4, 1, 3),
        "encoder.blocks.0.ffn.up.weight": (4, 4),
        "encoder.embed.weight": (4, 4),
    }
    algorithm_of = algorithms({name: nn.Parameter(torch.zeros(shape)) for name, shape in shapes.items()})
    assert algorithm_of == {
        "blocks.0.mixer.taps": "AdamW",
        "encoder.blocks.0.ffn.up.weight": "Muon",
        "encoder.embed.weight": "AdamW",
    }


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_without_layer_lr_decay_the_groups_are_matrices_and_vectors(name: str) -> None:
    parameters = parameters_of()
    optimizer = BUILTIN[name].Config(weight_decay=0.3).build().create(parameters)
    plain = decay_groups(parameters, 0.3)
    if name != "muon":
        assert [group["params"] for group in optimizer.param_groups] == [group["params"] for group in plain]
        assert {group["lr"] for group in optimizer.param_groups} == {BUILTIN[name].Config().lr}
    for group in optimizer.param_groups:
        assert (group["weight_decay"] > 0) == all(parameter.ndim > 1 for parameter in group["params"])


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_layer_lr_decay_scales_the_learning_rate_from_block_to_block(name: str) -> None:
    parameters = parameters_of(n_layers=3, tie_embeddings=False, positional="learned")
    scaled = _lrs(BUILTIN[name].Config(layer_lr_decay=0.5).build().create(parameters), parameters)
    plain = _lrs(BUILTIN[name].Config().build().create(parameters), parameters)
    expected = {"blocks.0.": 0.25, "blocks.1.": 0.5, "blocks.2.": 1.0, "exit.": 1.0, "head.": 1.0}
    expected |= {"embed.": 0.125, "positionals.": 0.125}
    assert scaled.keys() == parameters.keys()
    for parameter, lr in scaled.items():
        (scale,) = (scale for prefix, scale in expected.items() if parameter.startswith(prefix))
        assert lr == plain[parameter] * scale, parameter


def _lrs(optimizer: torch.optim.Optimizer, parameters: Mapping[str, nn.Parameter]) -> dict[str, float]:
    names = {id(parameter): name for name, parameter in parameters.items()}
    return {names[id(p)]: group["lr"] for group in optimizer.param_groups for p in group["params"]}


def test_the_first_group_has_the_full_learning_rate() -> None:
    for name in OPTIMIZERS:
        config = BUILTIN[name].Config(layer_lr_decay=0.5)
        assert config.build().create(parameters_of()).param_groups[0]["lr"] == config.lr


def test_each_stack_of_blocks_has_its_own_depth() -> None:
    names = ["embed.weight", "encoder.entry.weight", "encoder.blocks.0.a", "encoder.blocks.1.a", "encoder.exit.weight"]
    names += ["blocks.0.a", "blocks.1.a.layers.7.weight", "blocks.2.a", "exit.weight", "classifier.weight"]
    assert lr_scales(names, 0.5) == {
        "embed.weight": 0.125,
        "encoder.entry.weight": 0.125,
        "encoder.blocks.0.a": 0.5,
        "encoder.blocks.1.a": 1.0,
        "encoder.exit.weight": 1.0,
        "blocks.0.a": 0.25,
        "blocks.1.a.layers.7.weight": 0.5,
        "blocks.2.a": 1.0,
        "exit.weight": 1.0,
        "classifier.weight": 1.0,
    }


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_meta_parameters_are_grouped_like_real_ones(name: str) -> None:
    real = parameters_of()
    meta = dict(gptzoo.build(small(), device="meta").named_parameters())
    config = BUILTIN[name].Config(layer_lr_decay=0.5)
    groups = [
        [{**group, "params": [tuple(p.shape) for p in group["params"]]} for group in optimizer.param_groups]
        for optimizer in (config.build().create(real), config.build().create(meta))
    ]
    assert groups[0] == groups[1]


def test_nesterov_needs_momentum(run_spec: dict[str, Any]) -> None:
    run_spec["optimizer"] = {"type": "sgd", "momentum": 0.0, "nesterov": True}
    with pytest.raises(SpecError, match=r"optimizer\.nesterov: needs a momentum above 0"):
        gptzoo.load_run_spec(run_spec)


# ---------------------------------------------------------------------- in a run

OPTIONS: dict[str, dict[str, Any]] = {  # that suit a run of so few steps
    "adamw": {"lr": 0.01},
    "muon": {"lr": 0.02, "adamw_lr": 0.01},
    "lion": {"lr": 0.003},
    "sgd": {"lr": 0.3},
    "adafactor": {"lr": 0.05},
}
OTHER_PATHS: dict[str, dict[str, Any]] = {
    "sgd": {"momentum": 0.0},
    "muon": {"adjust_lr": "match_rms_adamw", "nesterov": False},
}


@pytest.fixture
def quick_spec(run_spec: dict[str, Any]) -> dict[str, Any]:
    return {**run_spec, "batch_size": 8, "micro_batch_size": 4}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_it_lowers_the_loss(quick_spec: dict[str, Any], tmp_path: Path, name: str) -> None:
    quick_spec |= {"optimizer": {"type": name, **OPTIONS[name]}, "steps": 40, "eval": {"every": 40}}
    result = gptzoo.train(quick_spec, tmp_path / "run", quiet=True)
    assert result.metrics["val/loss"] < math.log(256) - 1.0


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_killed_run_resumes_to_bitwise_the_same_end(
    quick_spec: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    quick_spec["optimizer"] = {"type": name, **OPTIONS[name], "layer_lr_decay": 0.7}
    gptzoo.train(quick_spec, tmp_path / "whole", quiet=True)

    with monkeypatch.context() as patch:
        die_at(patch, 6)
        with pytest.raises(Killed):
            gptzoo.train(quick_spec, tmp_path / "killed", quiet=True)
    checkpoint = newest_valid_checkpoint(tmp_path / "killed" / "checkpoints")
    assert checkpoint is not None
    assert checkpoint.name == "step-00000004"
    gptzoo.train(quick_spec, tmp_path / "killed", resume=True, quiet=True)
    assert list(differences(tmp_path / "whole", tmp_path / "killed")) == []


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_parameter_that_is_not_contiguous_resumes_to_the_same_values(tmp_path: Path, name: str) -> None:
    def transposed() -> dict[str, nn.Parameter]:
        return {"blocks.0.ffn.weight": nn.Parameter(torch.arange(42.0).view(7, 6).T / 42)}

    def train(optimizer: torch.optim.Optimizer, parameters: Mapping[str, nn.Parameter], steps: Iterable[int]) -> None:
        for step in steps:
            for parameter in parameters.values():
                gradient = torch.randn(7, 6, generator=torch.Generator().manual_seed(step))
                parameter.grad = gradient.T  # autograd gives gradients the layout of their parameter
            optimizer.step()

    config = BUILTIN[name].Config(**OPTIONS[name])
    whole, resumed = transposed(), transposed()
    optimizer = config.build().create(whole)
    train(optimizer, whole, range(3))
    write_checkpoint_state(tmp_path, {}, optimizer, whole)
    with torch.no_grad():
        resumed["blocks.0.ffn.weight"].copy_(whole["blocks.0.ffn.weight"])
    resumed_optimizer = config.build().create(resumed)
    read_checkpoint_state(tmp_path, resumed_optimizer, resumed)
    train(optimizer, whole, range(3, 6))
    train(resumed_optimizer, resumed, range(3, 6))
    torch.testing.assert_close(resumed["blocks.0.ffn.weight"], whole["blocks.0.ffn.weight"], rtol=0, atol=0)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_checkpoint_has_state_of_every_parameter(quick_spec: dict[str, Any], tmp_path: Path, name: str) -> None:
    quick_spec |= {"optimizer": {"type": name, **OPTIONS[name]}, "steps": 1}
    gptzoo.train(quick_spec, tmp_path / "run", quiet=True)
    checkpoint = newest_valid_checkpoint(tmp_path / "run" / "checkpoints")
    assert checkpoint is not None
    kept = {key.partition("|")[0] for key in load_file(checkpoint / "optimizer.safetensors")}
    assert kept == set(load_file(checkpoint / "model.safetensors"))


@pytest.mark.slow
@pytest.mark.parametrize("name", OTHER_PATHS)
def test_options_that_open_other_paths_keep_the_promises_too(name: str) -> None:
    verdicts = gptzoo.testing.check(f"optimizer:{name}", OTHER_PATHS[name])
    assert [str(verdict) for verdict in verdicts if verdict.outcome != "passed"] == []
