"""The model specs in configs/models and their parameter counts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

import gptzoo
from gptzoo.model.build import build_on_meta

FOLDER = Path(__file__).parents[2] / "configs" / "models"
PARAMETERS = {
    "tiny": 1_498_880,
    "small": 3_727_872,
    "medium": 23_410_944,
    "large": 174_343_680,
    "gpt2": 124_439_808,
    "gpt2-16l": 152_791_296,
    "gpt2-medium": 354_823_168,
    "gpt2-large": 774_030_080,
    "gpt2-xl": 1_557_611_200,
    "gpt3": 174_604_259_328,
    "llama-tiny": 23_744_160,
    "local-global": 7_577_856,
}


def number_of_parameters(model: Any) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def test_every_spec_has_a_pinned_parameter_count() -> None:
    assert {file.stem for file in FOLDER.glob("*.json")} == set(PARAMETERS)


@pytest.mark.parametrize("name", PARAMETERS)
def test_the_number_of_parameters_is_exact(name: str) -> None:
    assert number_of_parameters(gptzoo.build(FOLDER / f"{name}.json", device="meta")) == PARAMETERS[name]


@pytest.mark.parametrize("name", PARAMETERS)
def test_a_spec_starts_with_version_and_name_and_names_its_components(name: str) -> None:
    spec = json.loads((FOLDER / f"{name}.json").read_text())
    assert list(spec)[:2] == ["spec_version", "name"]
    assert spec["name"] == name
    assert spec.keys() >= {"attention", "positional", "norm", "activation", "ffn"}


@pytest.mark.parametrize("name", PARAMETERS)
def test_a_model_returns_logits(name: str) -> None:
    spec = gptzoo.load_model_spec(FOLDER / f"{name}.json")
    shallow = spec.model_copy(update={"n_layers": min(spec.n_layers, 4)})
    logits, _ = build_on_meta(shallow)(torch.zeros(2, 3, dtype=torch.int64, device="meta"))
    assert logits.shape == (2, 3, spec.vocab_size)


def test_the_number_of_parameters_of_gpt2_with_untied_head_is_exact() -> None:
    spec = gptzoo.load_model_spec(FOLDER / "gpt2.json", ["tie_embeddings=false"])
    assert number_of_parameters(build_on_meta(spec)) == 163_037_184


def test_local_global_has_full_attention_in_every_fourth_layer() -> None:
    windows = [layer.window for layer in gptzoo.load_model_spec(FOLDER / "local-global.json").per_layer("attention")]
    assert windows == [64, 64, 64, None] * 2
