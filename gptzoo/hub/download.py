"""Download of a single file with a known digest by HTTP, without other packages."""

from __future__ import annotations

import hashlib
import os
import urllib.request
from http.client import HTTPException
from pathlib import Path
from urllib.error import HTTPError, URLError

from gptzoo.errors import DataError
from gptzoo.terminal.activity import activity
from gptzoo.utils.atomic import INCOMPLETE_PREFIX

_PIECE_BYTES = 2**20
_TIMEOUT = 30.0  # seconds without data


def download_file(url: str, file: Path, sha256: str) -> None:
    """Write the content of a URL to a file, atomically. Raises DataError if it cannot be had or has another digest."""
    temporary = file.with_name(f"{INCOMPLETE_PREFIX}{file.name}-{os.getpid()}")
    digest = hashlib.sha256()
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with (
            activity(f"downloading {url}"),
            urllib.request.urlopen(url, timeout=_TIMEOUT) as response,
            open(temporary, "wb") as out,
        ):
            while piece := response.read(_PIECE_BYTES):
                digest.update(piece)
                out.write(piece)
        if digest.hexdigest() != sha256:
            raise DataError(f"{url}: the download has the SHA-256 {digest.hexdigest()}, not {sha256}")
        os.replace(temporary, file)
    except HTTPError as error:
        raise DataError(f"{url}: the server answers with HTTP {error.code}") from None
    except (URLError, HTTPException, TimeoutError, ConnectionError) as error:
        raise DataError(f"{url}: cannot be downloaded: {getattr(error, 'reason', None) or error}") from None
    except OSError as error:
        raise DataError(f"{file}: cannot be written: {error.strerror or error}") from None
    finally:
        temporary.unlink(missing_ok=True)
