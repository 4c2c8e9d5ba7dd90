"""Ejected files against models written by hand: the same logits, and not much more code."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from ejected_files import module_of, n_statements, text_of
from torch import Tensor

from gptzoo.spec.files import load_model_spec

HERE = Path(__file__).parent
MODELS = HERE.parents[1] / "configs" / "models"
SPECS = {"gpt2": "gpt2.json", "llama": "llama-tiny.json"}
SMALL = {"vocab_size": 83, "d_model": 48, "n_layers": 2}
LIMIT = 1.8  # statements of an ejected file for each statement of a file that an engineer writes


@pytest.fixture(scope="module", params=SPECS)
def pair(request: pytest.FixtureRequest) -> tuple[str, str, str]:
    """Return the name, and the texts of a small ejected file and of the reference."""
    settings = json.loads((MODELS / SPECS[request.param]).read_text())
    text = text_of(load_model_spec({**settings, **SMALL}))
    return request.param, text, (HERE / "references" / f"{request.param}.py").read_text()


def test_a_file_has_at_most_1_8_times_the_statements_of_one_written_by_hand(pair: tuple[str, str, str]) -> None:
    _, text, reference = pair
    assert n_statements(text) <= LIMIT * n_statements(reference)


def test_logits_and_tokens_are_those_of_the_reference(pair: tuple[str, str, str]) -> None:
    name, text, reference = pair
    ejected = module_of(text)
    torch.manual_seed(1)
    model = ejected.GPT().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    other = module_of(resized(reference, model)).__dict__[{"gpt2": "GPT2", "llama": "Llama"}[name]]()
    other.load_state_dict(RENAMED[name](model.state_dict()))
    other.eval()
    tokens = torch.randint(SMALL["vocab_size"], (2, 20))
    with torch.no_grad():
        logits = model(tokens)
        assert logits.std() > 0.1
        torch.testing.assert_close(logits, other(tokens), atol=1e-5, rtol=0)
        torch.testing.assert_close(model(tokens, tokens), other(tokens, tokens), atol=1e-5, rtol=0)
    generated = model.generate(tokens[:, :5], 12, temperature=0)
    assert torch.equal(generated, other.generate(tokens[:, :5], 12, temperature=0))


def resized(reference: str, model: torch.nn.Module) -> str:
    """Return the reference with the sizes of the small model."""
    down: Any = model.get_submodule("blocks.0.ffn.down")
    for name, value in {**SMALL, "d_ff": down.in_features}.items():
        reference, count = re.subn(
            rf"^{name.upper()} = .*$", f"{name.upper()} = {value}", reference, flags=re.MULTILINE
        )
        assert count == 1
    return reference


def gpt2_names(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    renames = {"positional.table": "positions", "ffn_norm": "mlp_norm", ".ffn.": ".mlp.", "final_norm": "norm"}
    return {replaced(name, renames): tensor for name, tensor in tensors.items()}


def llama_names(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    result = {}
    for name, tensor in tensors.items():
        new = replaced(name, {"final_norm": "norm"})
        if ".qkv." in name:
            width = SMALL["d_model"]
            parts = tensor.split([width, width // 3, width // 3])
            result |= {new.replace("qkv", part): rows for part, rows in zip("qkv", parts, strict=True)}
        elif ".gate_up." in name:
            result |= dict(zip((new.replace("gate_up", part) for part in ("gate", "up")), tensor.chunk(2), strict=True))
        else:
            result[new] = tensor
    return result


def replaced(name: str, renames: dict[str, str]) -> str:
    for old, new in renames.items():
        name = name.replace(old, new)
    return name


RENAMED = {"gpt2": gpt2_names, "llama": llama_names}
