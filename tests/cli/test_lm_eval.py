"""`gptzoo lm-eval` without the harness: what is wrong is reported before a model is loaded."""

from __future__ import annotations

import sys

import pytest
from click.testing import CliRunner

from gptzoo.cli import main


def test_a_missing_package_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "lm_eval", None)
    result = CliRunner().invoke(main, ["lm-eval", "runs/mine", "--tasks", "x"])
    assert result.exit_code == 2
    assert "pip install 'gptzoo[lm-eval]'" in result.output


def test_run_comes_before_the_options_of_the_harness() -> None:
    result = CliRunner().invoke(main, ["lm-eval", "--tasks", "x", "runs/mine"])
    assert result.exit_code == 2
    assert "give RUN before" in result.output
