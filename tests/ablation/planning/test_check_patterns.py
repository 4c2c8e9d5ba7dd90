"""Patterns of parameters that match nothing in some variant end an ablation before anything is trained."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from gptzoo.ablation.planning.plan import make_plan
from gptzoo.cli import main
from gptzoo.spec.files import load_ablation_spec

BASE = {
    "model": {"context_length": 16, "d_model": 16, "n_layers": 1, "n_heads": 2, "bias": False},
    "corpus": {"type": "stories", "n_stories": 60},
    "tokenizer": "byte",
    "batch_size": 2,
    "steps": 2,
    "device": "cpu",
    "sample": {"max_new_tokens": 0},
}


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GPTZOO_CACHE", str(tmp_path / "cache"))


def ablate(folder: Path, axes: dict[str, Any], *arguments: str, **fields: Any) -> Result:
    spec = {"name": "parts", "base": {**BASE, **fields}, "axes": axes, "seeds": 2, "samples": False}
    (folder / "ablation.json").write_text(json.dumps(spec))
    return CliRunner().invoke(main, ["ablate", str(folder / "ablation.json"), "--out", str(folder / "out"), *arguments])


@pytest.mark.parametrize("arguments", [["--dry-run"], []])
@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"freeze": ["*.gate_up"]}, "$.freeze[0]: '*.gate_up' matches no parameter"),
        ({"train_only": ["blocks.*.ffn.down", "blocks.*.ffn.gate_up"]}, "$.train_only[1]: 'blocks.*.ffn.gate_up'"),
        (
            {"init_from": {"parts": {"blocks.*.ffn.gate_up": "source"}}},
            '$.init_from.parts["blocks.*.ffn.gate_up"]: matches no tensor of the model',
        ),
        ({"freeze": ["*"]}, "$.freeze: every parameter is frozen"),
    ],
)
def test_a_pattern_that_matches_nothing_in_a_variant_names_it(
    tmp_path: Path, fields: dict[str, Any], message: str, arguments: list[str]
) -> None:
    """The baseline has a gated network, so that its own patterns are right."""
    result = ablate(tmp_path, {"model.ffn": ["glu", "mlp"]}, *arguments, **fields)
    assert result.exit_code == 2, result.output
    wrong = "glu" if fields.get("freeze") == ["*"] else "mlp"
    assert f"parts: variant {wrong}: {message}" in result.output
    assert not (tmp_path / "out").exists()


def test_patterns_may_differ_between_variants(tmp_path: Path) -> None:
    choices = {
        "gated": {"model.ffn": "glu", "train_only": ["blocks.*.ffn.gate_up"]},
        "plain": {"model.ffn": "mlp", "train_only": ["blocks.*.ffn.up"]},
    }
    spec = load_ablation_spec({"base": BASE, "axes": {"network": {"choices": choices}}, "seeds": 2})
    assert [variant.name for variant in make_plan(spec, tmp_path).variants] == ["gated", "plain"]
