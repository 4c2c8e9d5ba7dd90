from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A token cache of the test's own."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("GPTZOO_CACHE", str(folder))
    return folder
