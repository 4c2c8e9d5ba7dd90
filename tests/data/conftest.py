import os
from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A token cache of the test's own."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("GPTZOO_CACHE", str(folder))
    return folder


@pytest.fixture
def shared_data() -> Path:
    """The folder $GPTZOO_TEST_DATA with tinyshakespeare.txt and two files of wikitext-2."""
    folder = os.environ.get("GPTZOO_TEST_DATA")
    if folder is None:
        pytest.skip("needs tinyshakespeare.txt and wikitext-2 in the folder $GPTZOO_TEST_DATA")
    return Path(folder)
