"""Provenance: written specs record their components, and reading migrates, warns or refuses."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from support import plugin_of, small
from torch import Tensor

import gptzoo
from gptzoo import registry
from gptzoo.checkpoint.model_folder import save_model
from gptzoo.spec.provenance import COMPONENTS_KEY, add_provenance, strip_provenance

SPEC = small(activation={"type": "bend", "slope": 0.5}, ffn=["mlp", "glu"])


class Bend(gptzoo.Activation):
    """Version 1, with which the file was written."""

    name = "bend"

    class Config(gptzoo.Activation.Config):
        slope: float = 0.1

    def forward(self, x: Tensor) -> Tensor:
        return torch.where(x > 0, x, x * self.config.slope)


class BendV2(gptzoo.Activation):
    """Version 2: its option has another name and sign, and there is a new one."""

    name = "bend"
    version = 2

    class Config(gptzoo.Activation.Config):
        leak: float = -0.1
        shift: float = 0.0

    @classmethod
    def migrate(cls, config: dict[str, Any], version: int) -> dict[str, Any]:
        assert version == 1
        return {"type": "bend", "leak": -config["slope"]}

    def forward(self, x: Tensor) -> Tensor:
        return torch.where(x > 0, x, -x * self.config.leak) + self.config.shift


def using(component: Any, version: str) -> Any:
    """Use a registry with the built-in components and one of a package of this version."""
    fresh = registry.discover("none")
    if component is not None:
        fresh.admit(plugin_of(component), registry.Origin("bend", "gptzoo-bend", version))
    return registry.use(fresh)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A model saved with version 1.0 of a package."""
    with using(Bend, "1.0"):
        save_model(tmp_path / "model", gptzoo.build(SPEC))
    return tmp_path / "model"


def logits(model: Any) -> Tensor:
    return model(torch.arange(8)[None])[0]


def test_a_written_spec_records_the_provider_of_each_component(folder: Path) -> None:
    records = json.loads((folder / "model.json").read_text())[COMPONENTS_KEY]
    assert {(record["path"], record["type"], record["distribution"]) for record in records} >= {
        ("$.activation", "bend", "gptzoo-bend"),
        ("$.ffn[0].activation", "bend", "gptzoo-bend"),
        ("$.ffn[1]", "glu", "gptzoo"),
        ("$.norm.layer", "layernorm", "gptzoo"),
    }
    bend = next(record for record in records if record["path"] == "$.activation")
    assert (bend["kind"], bend["version"], bend["config_version"]) == ("activation", "1.0", 1)


def test_the_same_packages_give_no_warning(folder: Path) -> None:
    with using(Bend, "1.0"), warnings.catch_warnings():
        warnings.simplefilter("error")
        assert gptzoo.load(folder).spec == gptzoo.load_model_spec(SPEC)


def test_a_missing_package_is_named_at_each_place(folder: Path) -> None:
    with using(None, ""), pytest.raises(gptzoo.SpecError) as caught:
        gptzoo.load(folder)
    assert [problem.path for problem in caught.value.problems] == [
        "$.activation",
        "$.ffn[0].activation",
        "$.ffn[1].activation",
    ]
    assert "activation 'bend' was provided by gptzoo-bend 1.0. Run pip install gptzoo-bend" in str(caught.value)


def test_the_error_for_a_component_from_a_local_file_names_the_file() -> None:
    with using(None, "") as fresh:
        fresh.admit(plugin_of(Bend), registry.Origin("mine", "file /home/me/mine.py", ""))
        data = add_provenance(gptzoo.load_model_spec(SPEC))
    with (
        using(None, ""),
        pytest.raises(gptzoo.SpecError, match=r"file /home/me/mine\.py. Load that file with --plugin"),
    ):
        gptzoo.load_model_spec(data)


def test_another_version_with_the_same_options_warns_once(folder: Path) -> None:
    with using(Bend, "1.1"), pytest.warns(gptzoo.VersionWarning) as caught:
        gptzoo.load(folder)
    (warning,) = caught
    assert str(warning.message) == (
        "model.json: written with gptzoo-bend 1.0, read with gptzoo-bend 1.1; the options are the same"
    )


def test_older_options_are_migrated_at_any_depth_with_the_same_meaning(folder: Path) -> None:
    with using(Bend, "1.0"):
        before = gptzoo.load(folder).model
    with using(BendV2, "2.0"), pytest.warns(gptzoo.VersionWarning, match="migrated from version 1 to 2"):
        after = gptzoo.load(folder)
    assert after.spec.activation.leak == -0.5
    assert after.spec.ffn[1].activation.leak == -0.5
    torch.testing.assert_close(logits(after.model), logits(before))


def test_the_warning_names_new_options() -> None:
    with using(Bend, "1.0"):
        data = add_provenance(gptzoo.load_model_spec(SPEC))
    with using(BendV2, "2.0"), pytest.warns(gptzoo.VersionWarning, match="'shift' is new and takes its default"):
        gptzoo.load_model_spec(data)


def test_options_newer_than_the_installed_package_are_an_error() -> None:
    new = {**SPEC, "activation": {"type": "bend", "leak": 0.5}}
    with using(BendV2, "2.0"):
        data = add_provenance(gptzoo.load_model_spec(new))
    with (
        using(Bend, "1.0"),
        pytest.raises(gptzoo.SpecError, match=r"gptzoo-bend 2\.0; .* Run pip install -U gptzoo-bend"),
    ):
        gptzoo.load_model_spec(data)


def test_a_component_replaced_by_hand_is_accepted(folder: Path) -> None:
    data = json.loads((folder / "model.json").read_text())
    data["activation"] = "relu"
    for layer in data["ffn"]:
        layer["activation"] = "relu"
    with using(None, ""):
        assert gptzoo.load_model_spec(data).activation.type == "relu"


def test_a_spec_written_by_hand_needs_no_provenance() -> None:
    assert strip_provenance(small(), "x") == small()


@pytest.mark.parametrize("wrong", [3, [3], [{"path": "$.ffn"}]])
def test_invalid_provenance_is_an_error(wrong: Any) -> None:
    with pytest.raises(gptzoo.SpecError, match=r"\$components: .*gptzoo writes this key"):
        gptzoo.load_model_spec({**small(), COMPONENTS_KEY: wrong})
