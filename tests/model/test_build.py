"""Construction of a model from its spec, on any device."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from support import logits_of, small, tokens_of

import gptzoo
from gptzoo.errors import InputError, SpecError
from gptzoo.model.architecture import Architecture


def test_a_model_is_built_from_a_dict_a_spec_or_a_file(tmp_path: Path) -> None:
    file = tmp_path / "tiny.json"
    file.write_text(json.dumps(small()))
    models = [gptzoo.build(source) for source in (small(), gptzoo.load_model_spec(small()), file, str(file))]
    assert all(isinstance(model, Architecture) for model in models)
    tokens = tokens_of(models[0], 1, 4)
    assert all(torch.equal(logits_of(model, tokens), logits_of(models[0], tokens)) for model in models)


def test_a_model_is_built_on_the_device(device: str) -> None:
    model = gptzoo.build(small(positional=["rope", "learned"]), device=device)
    assert {tensor.device.type for tensor in (*model.parameters(), *model.buffers())} == {device}
    assert logits_of(model, tokens_of(model, 1, 4)).device.type == device


def test_every_spec_builds_on_the_meta_device(any_spec: dict[str, Any]) -> None:
    model = gptzoo.build(any_spec, device="meta")
    assert all(tensor.is_meta for tensor in (*model.parameters(), *model.buffers()))


def test_a_model_of_175_billion_parameters_is_counted_without_allocating_it() -> None:
    vocabulary, context, width, depth = 50257, 2048, 12288, 96  # GPT-3, Brown et al. 2020
    model = gptzoo.build(
        {"vocab_size": vocabulary, "context_length": context, "d_model": width, "n_layers": depth, "n_heads": 96},
        device="meta",
    )
    count = sum(parameter.numel() for parameter in model.parameters())
    assert count == (vocabulary + context + 2) * width + depth * (12 * width**2 + 13 * width)
    assert all(parameter.is_meta for parameter in model.parameters())


def test_building_without_vocab_size_is_an_error() -> None:
    with pytest.raises(SpecError) as caught:
        gptzoo.build(small(vocab_size=None, name="nameless"))
    assert str(caught.value) == (
        "nameless: $.vocab_size: is required to build a model. In a training run, the tokenizer sets it."
    )


@pytest.mark.parametrize(
    "changes",
    [
        {"ffn": {"type": "mlp", "d_ff": 10**30}},
        {"ffn": {"type": "glu", "multiplier": 1e30}},
        {"n_heads": 10**18, "d_head": 4, "positional": "none"},
    ],
    ids=["width", "multiplier", "heads"],
)
def test_a_parameter_too_large_for_torch_is_an_input_error(changes: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="a parameter of this model has more elements than torch can count"):
        gptzoo.build(small(**changes), device="meta")


def test_an_invalid_spec_is_a_spec_error() -> None:
    with pytest.raises(SpecError, match="attention"):
        gptzoo.build(small(attention="sdap"))
