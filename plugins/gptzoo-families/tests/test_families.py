"""Every family gives the logits and the greedy text of transformers, and refuses what it cannot represent."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from checkpoint_families import CONFIGS, make_model
from gptzoo_families import gptzoo_components
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
