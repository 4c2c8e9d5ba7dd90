"""The client of the Hugging Face Hub, and its exceptions as errors that say what to do."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from functools import cache
from types import ModuleType
from typing import TYPE_CHECKING

from gptzoo.errors import HubError

if TYPE_CHECKING:
    from huggingface_hub import HfApi

_NAME = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}", re.ASCII)
_LOG_IN = "log in with `hf auth login`, or set HF_TOKEN"
_MAX_REASON = 300  # characters of an exception in an error message
_CONNECTION_TIMEOUT = 5.0  # seconds


def is_repository_name(text: str) -> bool:
    """Return True for a name in the form ORG/NAME."""
    return _NAME.fullmatch(text) is not None and ".." not in text and not text.endswith((".git", ".", "-"))


def require_repository_name(text: str) -> str:
    """Return a name in the form ORG/NAME. Raises HubError for any other text."""
    if not is_repository_name(text):
        raise HubError(f"{text}: expected the name of a repository on the Hugging Face Hub, ORG/NAME")
    return text


def import_hub() -> ModuleType:
    """Return the package `huggingface_hub`. Raises HubError if it is not installed."""
    try:
        import huggingface_hub.constants
        import huggingface_hub.errors
        import huggingface_hub.utils
    except ImportError:
        raise HubError("the Hugging Face Hub needs the package `huggingface_hub`: pip install 'gptzoo[hub]'") from None
    return huggingface_hub


def hub_api() -> HfApi:
    """Return a client of the hub at HF_ENDPOINT, which has answered at least once.

    Raises HubError without `huggingface_hub`, and an exception of `huggingface_hub` if the hub does not answer.
    """
    hub = import_hub()
    require_connection(hub.constants.ENDPOINT)
    api: HfApi = hub.HfApi(endpoint=hub.constants.ENDPOINT)
    return api


@cache
def require_connection(endpoint: str) -> None:
    """Connect to a hub once, and raise the client's exception if there is no answer, whatever its status.

    `huggingface_hub` repeats most requests for 25 seconds. That helps while a hub is busy, but not without a network.
    """
    import_hub().utils.get_session().head(endpoint, timeout=_CONNECTION_TIMEOUT)


def is_offline() -> bool:
    """Return True if HF_HUB_OFFLINE is set."""
    return bool(import_hub().constants.HF_HUB_OFFLINE)


@contextlib.contextmanager
def report_hub_errors(name: str, *, without_network: str, to_write: bool = False) -> Iterator[None]:
    """Raise a HubError in place of an exception of `huggingface_hub`.

    name: the repository, for messages.
    without_network: what to do where the hub cannot be reached.
    to_write: True for requests that need the permission to write.
    """
    hub = import_hub()
    endpoint = hub.constants.ENDPOINT
    errors = hub.errors
    try:
        yield
    except errors.GatedRepoError:
        raise HubError(
            f"{name}: the repository is gated: its authors grant access on request. Accept their conditions at "
            f"{endpoint}/{name} and {_LOG_IN}"
        ) from None
    except errors.RepositoryNotFoundError:
        raise HubError(
            f"{name}: {endpoint} has no such repository, or it is private. Check the name; for a private one, {_LOG_IN}"
        ) from None
    except errors.RevisionNotFoundError:
        raise HubError(f"{name}: has no such revision; check the branch, tag or commit") from None
    except (errors.OfflineModeIsEnabled, errors.LocalEntryNotFoundError) as error:
        reason = "HF_HUB_OFFLINE is set" if hub.constants.HF_HUB_OFFLINE else f"cannot reach {endpoint}"
        raise HubError(f"{name}: {reason}, and the files are not in the local cache. {without_network}") from error
    except errors.HfHubHTTPError as error:
        raise HubError(f"{name}: {_describe_status(error, endpoint, to_write)}") from error
    except errors.LocalTokenNotFoundError:
        raise HubError(f"{name}: there is no access token for {endpoint}; {_LOG_IN}") from None
    except (errors.HTTPError, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None and not isinstance(error, ConnectionError):
            raise  # an error of the local disk
        raise HubError(f"{name}: cannot reach {endpoint}: {_shorten(error)}. {without_network}") from error


def _describe_status(error: Exception, endpoint: str, to_write: bool) -> str:
    status = getattr(getattr(error, "response", None), "status_code", None)
    if status in (401, 403):
        needed = "an access token that may write to it" if to_write else "access"
        return f"{endpoint} refuses the request (HTTP {status}): it needs {needed}; {_LOG_IN}"
    if status == 429:
        return f"{endpoint} limits the rate of requests (HTTP 429); wait a few minutes, or {_LOG_IN}"
    return f"{endpoint} answers with HTTP {status}: {_shorten(error)}. Try again later"


def _shorten(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (" ".join(lines) or type(error).__name__)[:_MAX_REASON]


def printable(text: str) -> str:
    """Return a stranger's text on one line and without control characters, which could change a terminal."""
    return "".join(character if character.isprintable() else "?" for character in text)
