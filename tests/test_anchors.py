"""What the promises of learning are held against; minutes each, so `slow`."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path
from typing import Any

import pytest
import torch

ROOT = Path(__file__).parent.parent


@pytest.fixture
def anchors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("GPTZOO_CACHE", str(tmp_path / "cache"))
    spec = importlib.util.spec_from_file_location("anchors", ROOT / "benchmarks" / "anchors.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def all_threads() -> Any:
    """The other tests run on one thread each; a bit of one thread is not a bit of two."""
    before = torch.get_num_threads()
    torch.set_num_threads(min(2, os.cpu_count() or 1))
    yield
    torch.set_num_threads(before)


@pytest.mark.slow
@pytest.mark.usefixtures("all_threads")
def test_nanogpts_setting_on_shakespeare_reaches_nanogpts_loss(anchors: Any, tmp_path: Path) -> None:
    data = os.environ.get("GPTZOO_TEST_DATA")
    if data is None:
        pytest.skip("needs tinyshakespeare.txt in the folder $GPTZOO_TEST_DATA")
    result = anchors.shakespeare(Path(data) / "tinyshakespeare.txt", [1, 2, 3], tmp_path)
    assert result["mean"] <= 1.91
    assert max(result["losses"]) <= 1.93


@pytest.mark.slow
@pytest.mark.usefixtures("all_threads")
def test_positions_matter_on_the_embedded_stories(anchors: Any, tmp_path: Path) -> None:
    result = anchors.positions([1, 2, 3], 120, tmp_path)
    assert result["difference"] > 0
    assert result["in_standard_deviations"] > 3
