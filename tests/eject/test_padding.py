"""`gptzoo eject --padding`: files for batches of texts of different lengths."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from eject_variants import BASE, PARTS, change, spec_of
from ejected_files import has_logits_of_its_model, module_of

import gptzoo
from gptzoo.cli import main
from gptzoo.eject.eject import eject_model
from gptzoo.eject.names import ejected_tensors
from gptzoo.eject.refusal import EjectError
from gptzoo.eject.verify import verify
from gptzoo.spec.files import load_model_spec

LENGTHS = (9, 4, 1)


@pytest.fixture(scope="module")
def model() -> Any:
    return gptzoo.build(load_model_spec(BASE), seed=3).eval()


@pytest.fixture(scope="module")
def text(model: Any) -> str:
    return eject_model(model, padding=True)


@pytest.mark.slow
def test_padded_rows_have_the_logits_of_their_texts_alone(model: Any, text: str) -> None:
    module = module_of(text)
    file = module.GPT().eval()
    file.load_state_dict(ejected_tensors(model.state_dict(), model))
    tokens = torch.randint(97, (len(LENGTHS), max(LENGTHS)), generator=torch.Generator().manual_seed(0))
    positions = torch.stack([torch.arange(max(LENGTHS)) - (max(LENGTHS) - n) for n in LENGTHS]).clamp(min=-1)
    with torch.no_grad():
        padded = file(tokens, positions=positions)
        for row, n in enumerate(LENGTHS):
            alone, _ = model(tokens[row : row + 1, -n:])
            torch.testing.assert_close(padded[row, -n:], alone[0], rtol=0, atol=1e-5)


@pytest.mark.slow
def test_the_command_writes_a_file_that_takes_positions(tmp_path: Path) -> None:
    (tmp_path / "spec.json").write_text(load_model_spec(BASE).model_dump_json())
    done = CliRunner().invoke(main, ["eject", str(tmp_path / "spec.json"), str(tmp_path / "model.py"), "--padding"])
    assert done.exit_code == 0, done.output
    assert "positions: Tensor | None = None" in (tmp_path / "model.py").read_text()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("right", "wrong", "message"),
    [
        ("mask = k >= 0", "mask = k >= -1", "padded batch differ"),  # attends to padding
        ("torch.where(keep, positions_2d, -1)", "positions_2d + 1", "with a cache"),
    ],
)
def test_a_file_that_is_wrong_for_padding_only_is_refused(
    model: Any, text: str, right: str, wrong: str, message: str
) -> None:
    assert right in text
    with pytest.raises(EjectError, match=message):
        verify(text.replace(right, wrong), model, padding=True)


def test_an_attention_without_support_for_padding_is_refused(monkeypatch: pytest.MonkeyPatch, model: Any) -> None:
    monkeypatch.setattr(gptzoo.SdpaAttention, "supports", gptzoo.SdpaAttention.supports - {"padding"})
    with pytest.raises(EjectError, match="attention 'sdpa' does not support padding"):
        eject_model(model, padding=True)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:attention 'flex':UserWarning")
@pytest.mark.parametrize("part", [part for part in PARTS if part.startswith(("attention", "positional", "ffn"))])
def test_every_part_ejects_with_padding(part: str) -> None:
    assert has_logits_of_its_model(spec_of(change(part)), padding=True)
