"""Every family gives the logits and the greedy text of transformers, and refuses what it cannot represent."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from checkpoint_families import CONFIGS, make_model, randomise
from gptzoo_families import gptzoo_components
from safetensors.torch import load_file, save_file
from torch import Tensor

import gptzoo
from gptzoo.interop.hugging_face import import_folder
from gptzoo.interop.settings import Settings

GREEDY = gptzoo.SamplingSpec(max_new_tokens=64, processors=({"type": "temperature", "value": 0.0},))


def import_model(model: Any, folder: Path) -> Any:
    model.save_pretrained(folder / "theirs")
    import_folder(folder / "theirs", folder / "ours")
    return gptzoo.load(folder / "ours").model


def random_tokens(model: Any, length: int) -> Tensor:
    return torch.randint(3, model.config.vocab_size, (2, length), generator=torch.Generator().manual_seed(7))


@pytest.mark.parametrize("name", CONFIGS)
def test_logits_and_greedy_text_equal_those_of_transformers(name: str, tmp_path: Path) -> None:
    theirs = make_model(name)
    ours = import_model(theirs, tmp_path)
    tokens = random_tokens(theirs, 40)
    with torch.no_grad():
        expected, logits = theirs(tokens).logits, ours(tokens)[0]
    assert expected.std() > 0.01
    torch.testing.assert_close(logits, expected, rtol=0, atol=1e-4)
    prompt = tokens[:, :12]
    generated = gptzoo.generate(ours, prompt.tolist(), GREEDY)
    assert generated == greedy(theirs, prompt, 64)


@pytest.mark.parametrize("name", ["gemma", "gemma2", "qwen3-next", "qwen3", "gpt-oss", "olmo2"])
def test_a_checkpoint_in_bfloat16_keeps_its_type_and_its_values(name: str, tmp_path: Path) -> None:
    """Norms that multiply by 1 + weight have weights that bfloat16 cannot hold. They become float32."""
    make_model(name).to(torch.bfloat16).save_pretrained(tmp_path / "theirs")
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "theirs", dtype=torch.float32).eval()
    import_folder(tmp_path / "theirs", tmp_path / "ours")
    stored = load_file(tmp_path / "ours" / "model.safetensors")
    assert {tensor.dtype for tensor in stored.values() if tensor.ndim > 1} == {torch.bfloat16}
    tokens = random_tokens(theirs, 40)
    with torch.no_grad():
        logits, expected = gptzoo.load(tmp_path / "ours").model(tokens)[0], theirs(tokens).logits
    torch.testing.assert_close(logits, expected, rtol=0, atol=1e-5)


OLDER: dict[str, tuple[str, dict[str, Any]]] = {
    "gemma2": ("gemma2", {"layer_types": None, "rope_parameters": None, "rope_theta": 10000.0}),
    "gemma3": (
        "gemma3-scaled",
        {
            "layer_types": None,
            "sliding_window_pattern": 3,
            "rope_parameters": None,
            "rope_theta": 1e6,
            "rope_local_base_freq": 1e4,
            "rope_scaling": {"rope_type": "linear", "factor": 8.0},
        },
    ),
    "qwen2": (
        "qwen2",
        {
            "layer_types": None,
            "rope_parameters": None,
            "rope_theta": 10000.0,
            "use_sliding_window": False,
            "sliding_window": 8,
            "max_window_layers": 1,
        },
    ),
    "qwen2-window": ("qwen2-window", {"layer_types": None, "max_window_layers": 1}),
    "gpt-neox": ("gpt-neox", {"rope_parameters": None, "rotary_pct": 0.25, "rotary_emb_base": 10000}),
    "stablelm": ("stablelm", {"rope_parameters": None, "rope_theta": 10000, "partial_rotary_factor": 0.25}),
    "phi": ("phi", {"rope_parameters": None, "rope_theta": 10000.0, "partial_rotary_factor": 0.5}),
    "smollm3": ("smollm3", {"no_rope_layers": None, "no_rope_layer_interval": 2}),
}
"""Settings as older versions of transformers wrote them, by the name of the model. A value of None is left out."""


@pytest.mark.parametrize("name", OLDER)
def test_settings_of_older_versions_mean_the_same(name: str, tmp_path: Path) -> None:
    model_name, older = OLDER[name]
    theirs = make_model(model_name)
    theirs.save_pretrained(tmp_path / "theirs")
    file = tmp_path / "theirs" / "config.json"
    settings = {**json.loads(file.read_text()), **older}
    file.write_text(json.dumps({key: value for key, value in settings.items() if value is not None}))
    import_folder(tmp_path / "theirs", tmp_path / "ours")
    ours = gptzoo.load(tmp_path / "ours").model
    tokens = random_tokens(theirs, 40)
    with torch.no_grad():
        torch.testing.assert_close(ours(tokens)[0], theirs(tokens).logits, rtol=0, atol=1e-4)


@pytest.mark.parametrize("old_names", [False, True])
def test_the_text_model_of_a_model_that_reads_images_is_imported(old_names: bool, tmp_path: Path) -> None:
    text = CONFIGS["gemma3"][1] | {"vocab_size": 96, "hidden_size": 64, "num_hidden_layers": 2, "intermediate_size": 96}
    vision = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = transformers.Gemma3Config(
        text_config={**text, "num_attention_heads": 4, "max_position_embeddings": 128},
        vision_config={**vision, "image_size": 28, "patch_size": 14},
        mm_tokens_per_image=4,
        image_token_index=95,
    )
    torch.manual_seed(0)
    theirs = transformers.Gemma3ForConditionalGeneration(config).eval()
    randomise(theirs, 0)
    theirs.save_pretrained(tmp_path / "theirs")
    if old_names:
        file = tmp_path / "theirs" / "model.safetensors"
        tensors = {name: tensor.clone() for name, tensor in load_file(file).items()}
        save_file(
            {name.replace("model.language_model.", "language_model.model."): t for name, t in tensors.items()}, file
        )
    result = import_folder(tmp_path / "theirs", tmp_path / "ours")
    assert any("only the text model is imported" in note for note in result.notes)
    ours = gptzoo.load(tmp_path / "ours").model
    tokens = torch.randint(3, 90, (2, 40), generator=torch.Generator().manual_seed(7))
    with torch.no_grad():
        torch.testing.assert_close(ours(tokens)[0], theirs(tokens).logits, rtol=0, atol=1e-4)


@torch.no_grad()
def greedy(model: Any, tokens: Tensor, n: int) -> list[list[int]]:
    """Return the likeliest continuation by full forward passes of transformers, without its cache."""
    length = tokens.shape[1]
    for _ in range(n):
        tokens = torch.cat([tokens, model(tokens).logits[:, -1:].argmax(-1)], dim=1)
    return tokens[:, length:].tolist()


IMPORTERS = [component for component in gptzoo_components() if component.kind == "importer"]


def config_class(importer: type[gptzoo.Component]) -> Any:
    return transformers.models.auto.configuration_auto.CONFIG_MAPPING[importer.name]


@pytest.mark.parametrize("importer", IMPORTERS, ids=lambda importer: importer.name)
def test_every_setting_is_known_and_a_missing_one_means_its_default(importer: Any) -> None:
    built = importer.Config().build()
    settings = Settings(config_class(importer)().to_dict())
    full = built.spec(settings)
    settings.require_all_read(importer.no_effect)
    assert gptzoo.load_model_spec(built.spec(Settings({}))) == gptzoo.load_model_spec(full)


@pytest.mark.parametrize("importer", IMPORTERS, ids=lambda importer: importer.name)
def test_an_unknown_setting_is_refused_by_its_name(importer: Any) -> None:
    built = importer.Config().build()
    settings = Settings({**config_class(importer)().to_dict(), "unheard_of": 3})
    built.spec(settings)
    with pytest.raises(gptzoo.SpecError, match=r"\$\.unheard_of: unknown setting"):
        settings.require_all_read(importer.no_effect)
