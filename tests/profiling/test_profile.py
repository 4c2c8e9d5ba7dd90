"""Profiles of tiny runs: sums, names, FLOPs in closed form, and parts that are expensive on purpose."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner

import gptzoo
from gptzoo import registry
from gptzoo.cli import main
from gptzoo.profiling.result import ProfileResult

LAYERS, WIDTH, LENGTH, BATCH, VOCABULARY = 2, 16, 8, 4, 257
MODEL: dict[str, Any] = {
    "context_length": LENGTH,
    "d_model": WIDTH,
    "n_layers": LAYERS,
    "n_heads": 2,
    "positional": "rope",
    "activation": "lazy",
}
GELU = {**MODEL, "activation": "gelu"}
TOKENS = BATCH * LENGTH


WASTED = 2000  # useless operations of a backward pass
PLUGIN = f"""
import gptzoo, torch

class ExpensiveBackward(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, gradient):
        wasted = gradient
        for _ in range({WASTED}):
            wasted = wasted.sin()
        return gradient

class Lazy(gptzoo.Activation):
    '''The identity, with a backward pass that is expensive on purpose.'''
    name = "lazy"

    def forward(self, x):
        return ExpensiveBackward.apply(x)

@gptzoo.hookimpl
def gptzoo_components():
    return [Lazy]
"""


def run_spec(folder: Path, **changes: Any) -> dict[str, Any]:
    (folder / "text.txt").write_text("the cat sat on the mat and the dog sat on the log. " * 30)
    run = {
        "model": MODEL,
        "corpus": {"type": "text", "path": str(folder / "text.txt")},
        "tokenizer": "byte",
        "batch_size": BATCH,
        "micro_batch_size": 2,
        "steps": 2,  # fewer than a profile trains
        "device": "cpu",
        "precision": "fp32",
    }
    return {**run, **changes}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("profile")


@pytest.fixture(scope="module")
def profiled(folder: Path) -> ProfileResult:
    """The result of the command for a model with a component of a plugin."""
    (folder / "lazy.py").write_text(PLUGIN)
    (folder / "run.json").write_text(json.dumps(run_spec(folder)))
    with pytest.MonkeyPatch().context() as patch, registry.use(registry.discover("none")):
        patch.setenv("GPTZOO_CACHE", str(folder / "cache"))
        patch.chdir(folder)
        command = ["profile", "run.json", "--steps", "2", "--out", "out", "--json", "--plugin", "lazy.py"]
        done = CliRunner().invoke(main, command)
    assert done.exit_code == 0, done.output
    assert "trace: out/trace.json" in done.stderr
    return ProfileResult.model_validate_json(done.stdout)


def row(result: ProfileResult, component: str, phase: str) -> Any:
    return next(row for row in result.rows if (row.component, row.phase) == (component, phase))


def test_the_rows_add_up_to_the_step(profiled: ProfileResult) -> None:
    assert sum(r.share for r in profiled.rows) == pytest.approx(1)
    assert sum(r.seconds for r in profiled.rows) == pytest.approx(profiled.step.seconds)
    assert sum(phase.seconds for phase in profiled.phases.values()) == pytest.approx(profiled.step.seconds)
    assert profiled.step.seconds == pytest.approx(profiled.overhead * profiled.unprofiled_seconds)
    assert len({(r.component, r.phase) for r in profiled.rows}) == len(profiled.rows)


def test_the_rows_have_the_names_of_the_registry(profiled: ProfileResult) -> None:
    names = {r.component for r in profiled.rows if ":" in r.component}
    assert {"attention:sdpa", "ffn:mlp", "activation:lazy", "norm:pre_ln", "norm_layer:layernorm"} <= names
    assert {"positional:rope", "architecture:decoder", "optimizer:adamw"} <= names
    for name in names:
        kind, _, component = name.partition(":")
        assert component in {*gptzoo.registered(kind), "lazy"}
    assert {"embed", "head", "next batch"} <= {r.component for r in profiled.rows}


def test_a_part_with_an_expensive_backward_pass_dominates_the_backward_pass_alone(profiled: ProfileResult) -> None:
    assert (profiled.rows[0].component, profiled.rows[0].phase) == ("activation:lazy", "backward")
    elements = LAYERS * TOKENS * 4 * WIDTH
    assert row(profiled, "activation:lazy", "forward").bytes == elements * 8  # float32, read and written
    assert row(profiled, "activation:lazy", "backward").bytes == elements * 8 * WASTED


def test_the_flops_of_each_component_are_those_of_its_products(profiled: ProfileResult) -> None:
    projections = LAYERS * 2 * TOKENS * 4 * WIDTH**2
    attention_product = LAYERS * 2 * TOKENS * LENGTH * WIDTH
    expected = {
        "attention:sdpa": (projections + 2 * attention_product, 2 * projections + 5 * attention_product),
        "ffn:mlp": (LAYERS * 2 * TOKENS * 8 * WIDTH**2, 2 * LAYERS * 2 * TOKENS * 8 * WIDTH**2),
        "head": (2 * TOKENS * WIDTH * VOCABULARY, 2 * 2 * TOKENS * WIDTH * VOCABULARY),
    }
    for component, (forward, backward) in expected.items():
        assert row(profiled, component, "forward").flops == forward
        assert row(profiled, component, "backward").flops == backward
    assert profiled.step.flops == sum(forward + backward for forward, backward in expected.values())


def test_the_optimizer_reads_and_writes_its_state(profiled: ProfileResult) -> None:
    n_parameters = sum(p.numel() for p in gptzoo.build({**GELU, "vocab_size": VOCABULARY}).parameters())
    least = 4 * n_parameters * (4 + 3)  # reads weights, gradients and two moments; writes all but the gradients
    assert least <= row(profiled, "optimizer:adamw", "optimizer").bytes < 1.2 * least


def test_the_folder_has_the_trace_the_result_and_the_table(profiled: ProfileResult, folder: Path) -> None:
    assert sorted(file.name for file in (folder / "out").iterdir()) == ["profile.json", "profile.txt", "trace.json"]
    assert ProfileResult.model_validate_json((folder / "out/profile.json").read_text()) == profiled
    names = {event["name"] for event in json.loads((folder / "out/trace.json").read_text())["traceEvents"]}
    assert "attention:sdpa [model.blocks.0.attention]" in names
    assert "head [model.head.loss]" in names
    table = (folder / "out/profile.txt").read_text()
    assert f"overhead {profiled.overhead:.2f}x" in table
    assert "activation:lazy" in table


@pytest.mark.slow
def test_recomputed_products_count_in_the_backward_pass_and_generators_stay_as_they_were(folder: Path) -> None:
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    result = gptzoo.profile(run_spec(folder, model=GELU, activation_checkpointing=True))
    assert torch.equal(torch.rand(1), expected)
    ffn = LAYERS * 2 * TOKENS * 8 * WIDTH**2
    projections = LAYERS * 2 * TOKENS * 4 * WIDTH**2
    attention_product = LAYERS * 2 * TOKENS * LENGTH * WIDTH
    # Blocks are computed again up to the last value that the backward pass needs, which is the hidden layer.
    assert row(result, "ffn:mlp", "backward").flops == 2 * ffn + ffn // 2
    assert row(result, "attention:sdpa", "backward").flops == 3 * projections + (2 + 5) * attention_product


def test_the_schema_describes_the_result(profiled: ProfileResult) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    schema = CliRunner().invoke(main, ["schema", "profile"])
    jsonschema.validate(json.loads(profiled.model_dump_json()), json.loads(schema.stdout))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["missing.json"], "missing.json"),
        (["run.json", "--steps", "0"], "--steps"),
        (["run.json", "--device", "tpu"], "tpu"),
        (["run.json", "--set", "batch_size=0"], "batch_size"),
        (["run.json", "--out", "."], "not empty"),
        (["run.json", "--out", "run.json/new"], "run.json/"),
    ],
)
def test_wrong_input_is_an_error(
    arguments: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("run.json").write_text(json.dumps(run_spec(tmp_path, model=GELU)))
    before = sorted(tmp_path.iterdir())
    done = CliRunner().invoke(main, ["profile", *arguments])
    assert done.exit_code == 2
    assert message in done.stderr
    assert sorted(tmp_path.iterdir()) == before


def test_python_refuses_no_steps() -> None:
    with pytest.raises(gptzoo.InputError, match="at least 1"):
        gptzoo.profile({}, steps=0)


@pytest.mark.cuda
def test_a_profile_of_a_gpu_adds_up(folder: Path) -> None:
    result = gptzoo.profile(run_spec(folder, model=GELU), device="cuda", steps=2)
    assert sum(r.share for r in result.rows) == pytest.approx(1)
    assert result.time_of == ("device" if torch.version.cuda else "host")  # a pretended GPU has no kernels
    assert row(result, "ffn:mlp", "backward").flops == 2 * row(result, "ffn:mlp", "forward").flops > 0


@pytest.mark.slow
def test_a_compiled_block_is_one_row(folder: Path) -> None:
    result = gptzoo.profile(run_spec(folder, model=GELU, compile=True), steps=1)
    block = row(result, "compiled block", "forward")
    assert block.flops == LAYERS * 2 * TOKENS * (12 * WIDTH**2 + 2 * LENGTH * WIDTH)
    assert block.bytes is None
    assert row(result, "compiled block", "backward").seconds > 0
    assert not [r for r in result.rows if r.component.startswith(("attention:", "ffn:"))]
