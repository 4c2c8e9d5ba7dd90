"""Every family is exported as it was imported: transformers loads it, with the same weights and logits."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from checkpoint_families import CONFIGS, make_model
from gptzoo_families import gptzoo_components
from safetensors.torch import load_file, save_file
from torch import Tensor

import gptzoo
from gptzoo.interop.export import NoFamilyError, families, native_export
from gptzoo.interop.hugging_face import import_folder

IMPORTERS = [component for component in gptzoo_components() if component.kind == "importer"]

ROUNDED = {
    **dict.fromkeys(("gemma", "gemma2", "gemma3_text"), r".*norm\.weight"),
    "qwen3_next": r".*(layernorm|[qk]_norm|model\.norm)\.weight",
}
"""Tensors of which gptzoo stores 1 + weight, by family. In float32, small weights lose their last bits by that."""


def save_checkpoint(folder: Path, settings: dict[str, Any], tensors: dict[str, Tensor]) -> None:
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(settings))
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


@pytest.mark.parametrize("name", CONFIGS)
def test_an_imported_model_is_exported_with_the_same_weights_and_logits(name: str, tmp_path: Path) -> None:
    theirs = make_model(name)
    theirs.save_pretrained(tmp_path / "theirs")
    result = import_folder(tmp_path / "theirs", tmp_path / "ours")
    export = native_export(result.spec, result.family)
    ours = gptzoo.load(tmp_path / "ours").model
    original = load_file(tmp_path / "theirs" / "model.safetensors")
    exported = dict(export.tensors(ours.state_dict()))
    assert exported.keys() == original.keys()
    for tensor_name, tensor in original.items():
        if tensor_name == "model.decoder.embed_positions.weight":  # OPT never uses the first two rows
            assert torch.equal(exported[tensor_name][2:], tensor[2:])
            assert not exported[tensor_name][:2].any()
        elif re.fullmatch(ROUNDED.get(export.family, r"(?!)"), tensor_name):
            torch.testing.assert_close(exported[tensor_name], tensor, rtol=0, atol=2**-23)
        else:
            assert torch.equal(exported[tensor_name], tensor), tensor_name
    save_checkpoint(tmp_path / "again", export.settings, exported)
    options = {"attn_implementation": "sdpa"} if export.family == "falcon" else {}
    again, info = transformers.AutoModelForCausalLM.from_pretrained(
        tmp_path / "again", output_loading_info=True, **options
    )
    assert not any(info.values())
    tokens = torch.randint(3, theirs.config.vocab_size, (2, 40), generator=torch.Generator().manual_seed(7))
    with torch.no_grad():
        torch.testing.assert_close(again.eval()(tokens).logits, theirs(tokens).logits, rtol=0, atol=1e-5)


@pytest.mark.parametrize("importer", IMPORTERS, ids=lambda importer: importer.name)
def test_the_defaults_of_a_family_are_exported_to_it(importer: Any) -> None:
    spec = gptzoo.load_model_spec(importer.Config().build().spec(gptzoo.Settings({})))
    assert native_export(spec, importer.name).family == importer.name


SIZES = {"vocab_size": 61, "context_length": 32, "d_model": 32, "n_layers": 2, "n_heads": 4}
LLAMA: dict[str, Any] = {
    **SIZES,
    "attention": {"type": "sdpa", "n_kv_heads": 2},
    "positional": "rope",
    "norm": {"type": "pre_ln", "layer": "rmsnorm"},
    "ffn": "glu",
    "activation": "silu",
    "bias": False,
}


def llama(**options: Any) -> gptzoo.ModelSpec:
    return gptzoo.load_model_spec({**LLAMA, **options})


@pytest.mark.parametrize(
    ("family", "options"),
    [
        ("llama", {}),
        ("gpt2", {"positional": "learned", "bias": True, "norm": "pre_ln", "ffn": "mlp", "attention": "sdpa"}),
        ("mistral", {"attention": {"type": "sdpa", "window": 8}}),
        ("qwen2", {"attention": {"type": "sdpa", "qkv_bias": True}}),
        ("qwen2", {"attention": [{"type": "sdpa", "qkv_bias": True, "window": w} for w in (None, 8)]}),
        ("qwen3", {"attention": {"type": "sdpa", "qk_norm": "rmsnorm"}}),
        ("phi3", {"positional": {"type": "rope", "fraction": 0.5}}),
        ("smollm3", {"positional": ["rope", "none"]}),
        ("mixtral", {"ffn": {"type": "moe", "expert": "glu", "balance": {"type": "loss", "coefficient": 0.5}}}),
        (
            "bloom",
            {
                "positional": "alibi",
                "bias": True,
                "activation": {"type": "gelu", "approximate": "tanh"},
                "ffn": "mlp",
                "attention": "sdpa",
                "norm": {"type": "pre_ln", "embedding_norm": True},
            },
        ),
    ],
)
def test_the_most_widely_read_family_that_fits_is_chosen(family: str, options: dict[str, Any]) -> None:
    export = native_export(llama(**options))
    assert export.family == family
    model = gptzoo.build(export.spec)
    assert model.state_dict().keys() == gptzoo.build(llama(**options)).state_dict().keys()


@pytest.mark.parametrize(
    ("options", "path"),
    [
        ({"attention": "gated_delta"}, "$.attention"),
        ({"norm": {"type": "deepnorm", "layer": "rmsnorm"}}, "$.norm"),
        ({"norm": {"type": "pre_ln", "layer": "dyt"}}, "$.norm.layer"),
        ({"attention": {"type": "sdpa", "sinks": True}}, "$.attention.sinks"),
        (
            {"activation": "relu", "ffn": [{"type": "glu"}, {"type": "glu", "activation": "silu"}]},
            "$.ffn[1].activation",
        ),
        ({"positional": ["rope", "alibi"]}, "$.positional[1]"),
    ],
)
def test_a_part_that_no_family_has_is_named(options: dict[str, Any], path: str) -> None:
    with pytest.raises(NoFamilyError) as raised:
        native_export(llama(**options))
    assert raised.value.refusals[0].reasons[0].path == path
    assert f"llama: {path}: the spec has " in str(raised.value)


def test_every_family_can_be_exported_to() -> None:
    assert {importer.name for importer in IMPORTERS} < {family.name for family in families()}


def test_a_model_with_mup_is_exported_with_its_multipliers(tmp_path: Path) -> None:
    spec = gptzoo.load_model_spec(
        {
            "vocab_size": 64,
            "context_length": 32,
            "d_model": 64,
            "n_layers": 2,
            "n_heads": 4,
            "positional": "rope",
            "norm": {"type": "pre_ln", "layer": "rmsnorm"},
            "ffn": "glu",
            "activation": "silu",
            "bias": False,
            "architecture": {"type": "decoder", "init_std": 0.3},
            "parametrisation": {"type": "mup", "base": {"d_model": 16, "n_heads": 4}},
        }
    )
    export = native_export(spec)
    assert export.family == "granite"
    ours = gptzoo.build(spec).eval()
    save_checkpoint(tmp_path / "theirs", export.settings, dict(export.tensors(ours.state_dict())))
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "theirs").eval()
    tokens = torch.randint(64, (2, 32), generator=torch.Generator().manual_seed(7))
    with torch.no_grad():
        torch.testing.assert_close(theirs(tokens).logits, ours(tokens)[0], rtol=0, atol=1e-5)
