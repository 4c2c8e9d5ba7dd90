"""An error about a path says what is wrong with it, without the number of an error or the name of a Python type."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from gptzoo.checkpoint.records import read_record
from gptzoo.cli import main
from gptzoo.errors import FolderError, SpecError
from gptzoo.spec.files import load_ablation_spec
from gptzoo.spec.formats.document import did_you_mean_path


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (["import-gguf", "folder", "out"], "folder: cannot be read: Is a directory"),
        (["import-gguf", "empty", "out"], "empty: is not a GGUF file, because it is empty"),
        (["import-hf", "empty", "out"], "empty: is a file. Give a folder that transformers' save_pretrained wrote, or"),
    ],
)
def test_a_path_of_the_wrong_kind_is_described(
    command: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("folder").mkdir()
    Path("empty").touch()
    result = CliRunner().invoke(main, command)
    assert (result.exit_code, result.stderr.startswith(message)) == (2, True), result.stderr
    assert not Path("out").exists()


def test_a_record_that_cannot_be_opened_does_not_count_as_damaged(tmp_path: Path) -> None:
    (tmp_path / "status.json").mkdir()
    with pytest.raises(FolderError, match=r"status\.json: cannot be read: Is a directory$"):
        read_record(tmp_path / "status.json")
    (tmp_path / "run.json").write_text("{")
    with pytest.raises(FolderError, match=r"run\.json: cannot be read: .*\. It was damaged or changed$"):
        read_record(tmp_path / "run.json")


def test_a_path_is_no_suggestion_for_itself(tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    assert did_you_mean_path(tmp_path / "models") == ""
    assert did_you_mean_path(tmp_path / "model") == f"; did you mean '{tmp_path / 'models'}'?"


def test_a_list_that_is_too_short_is_described_in_the_terms_of_json() -> None:
    model = {"context_length": 16, "d_model": 16, "n_layers": 1, "n_heads": 2}
    base = {"model": model, "corpus": "stories", "steps": 4}
    with pytest.raises(SpecError, match=r"\$\.seeds: should have at least 1 item, has 0$"):
        load_ablation_spec({"base": base, "axes": {"model.norm": ["pre_ln"]}, "seeds": []})
