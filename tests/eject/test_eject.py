"""`gptzoo eject`: every registered part ejects to one file, which is verified in a process without gptzoo."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from eject_variants import BASE

import gptzoo
from gptzoo.checkpoint.model_folder import save_model
from gptzoo.cli import main
from gptzoo.eject.eject import eject_model, eject_source
from gptzoo.eject.refusal import EjectError
from gptzoo.eject.verify import verify
from gptzoo.spec.files import load_model_spec


def test_a_file_names_nothing_of_gptzoo() -> None:
    text = eject_source(load_model_spec(BASE))
    code = text.partition('"""\n\nfrom')[2]
    assert "import gptzoo" not in text
    assert not any(word in code for word in ("gptzoo", "pydantic", "config", "capture", "documents", "memo"))


@pytest.mark.slow
def test_a_changed_file_is_refused() -> None:
    model = gptzoo.build(load_model_spec(BASE))
    text = eject_model(model)
    with pytest.raises(EjectError, match="logits"):
        verify(text.replace("F.silu(gate)", "F.gelu(gate)"), model)  # type: ignore[arg-type]


@pytest.mark.slow
def test_dropout_that_is_lost_is_refused() -> None:
    model = gptzoo.build(load_model_spec({**BASE, "dropout": 0.2}))
    text = eject_model(model)
    with pytest.raises(EjectError, match="loss"):
        verify(text.replace("self.out_dropout(self.out(y))", "self.out(y)"), model)  # type: ignore[arg-type]


@pytest.mark.skipif("encoder_decoder" not in gptzoo.registered("architecture"), reason="needs gptzoo-seq2seq")
def test_an_encoder_decoder_is_refused_with_its_name() -> None:
    with pytest.raises(EjectError, match="encoder_decoder"):
        eject_source(load_model_spec({**BASE, "architecture": "encoder_decoder"}))


def test_the_weights_of_a_model_folder_load_in_the_file(tmp_path: Path) -> None:
    model = gptzoo.build(load_model_spec(BASE), seed=3)
    save_model(tmp_path / "folder", model)
    done = CliRunner().invoke(main, ["eject", str(tmp_path / "folder"), str(tmp_path / "model.py"), "--weights"])
    assert done.exit_code == 0, done.output
    namespace: dict[str, Any] = {"__name__": "ejected_for_test"}
    import sys
    import types

    module = sys.modules["ejected_for_test"] = types.ModuleType("ejected_for_test")
    namespace = vars(module)
    exec((tmp_path / "model.py").read_text(), namespace)
    tokens = torch.arange(20)[None]
    with torch.no_grad():
        assert torch.equal(namespace["load"](str(tmp_path / "model.safetensors"))(tokens), model.eval()(tokens)[0])


def test_a_file_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "model.py").write_text("mine")
    done = CliRunner().invoke(main, ["eject", "configs/models/tiny.json", str(tmp_path / "model.py")])
    assert done.exit_code != 0
    assert (tmp_path / "model.py").read_text() == "mine"


@pytest.mark.parametrize("options", [["--weights"], ["--averaged"], ["--checkpoint", "best"], ["--best"]])
def test_options_for_weights_are_refused_for_a_spec(options: list[str], tmp_path: Path) -> None:
    done = CliRunner().invoke(main, ["eject", "configs/models/tiny.json", str(tmp_path / "model.py"), *options])
    assert (done.exit_code, "is a spec, which has no weights" in done.stderr) == (2, True), done.output


def test_the_weights_are_selected_as_in_other_commands(tmp_path: Path) -> None:
    save_model(tmp_path / "folder", gptzoo.build(load_model_spec(BASE)))
    for options, message in ((["--averaged"], "no averaged weights"), (["--checkpoint", "newest"], "got 'newest'")):
        done = CliRunner().invoke(main, ["eject", str(tmp_path / "folder"), str(tmp_path / "model.py"), *options])
        assert (done.exit_code, message in done.stderr) == (2, True), done.output
