"""A local web server that shows the report of an ablation or a ladder, and updates it while trials run."""

from __future__ import annotations

import hashlib
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from gptzoo.ablation.planning.folder import read_outcome
from gptzoo.ablation.report.figures.figure import build_figures
from gptzoo.ablation.report.html_page import render_page
from gptzoo.ablation.report.ladder_page import read_ladder_page
from gptzoo.ablation.report.tables import build_tables
from gptzoo.ablation.report.without_paths import without_paths
from gptzoo.ablation.scaling.folder import is_ladder
from gptzoo.ablation.statistics.analyse import analyse
from gptzoo.errors import FolderError, InputError

_WATCHED_FILES = ("*.json", "trials/*/*.json", "trials/*/*.jsonl", "trials/*/sample.txt")


class ReportServer(ThreadingHTTPServer):
    """A server for one ablation or ladder that accepts connections from this machine only.

    It serves the page at / and /page, and at /version a string that changes with the page.
    """

    daemon_threads = True

    def __init__(self, folder: Path, port: int):
        """Start to listen on a port; 0 chooses a free one.

        Raises FolderError if the folder holds no ablation, and InputError if the port cannot be used.
        """
        read_outcome(folder)
        self.folder = folder
        self._lock = threading.Lock()
        self._cached: tuple[str, str] | None = None  # the last page and its version
        try:
            super().__init__(("127.0.0.1", port), _Handler)
        except OSError as error:
            raise InputError(f"port {port}: {error.strerror}; choose another --port, or 0 for a free one") from None

    def handle_error(self, request: object, client_address: object) -> None:
        """Ignore a browser that has closed its connection. Print the traceback of any other exception."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)  # type: ignore[arg-type]  # the types of the base class

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/"

    def version(self) -> str:
        """Return a hash of the modification times and sizes of all files that the page depends on."""
        files = sorted(file for pattern in _WATCHED_FILES for file in self.folder.glob(pattern))
        digest = hashlib.sha256()
        for file in files:
            try:
                status = file.stat()
            except FileNotFoundError:  # The file is being replaced.
                continue
            digest.update(f"{file} {status.st_mtime_ns} {status.st_size}\n".encode())
        return digest.hexdigest()[:16]

    def page(self) -> str:
        """Return the current page. It is rendered once per version."""
        with self._lock:
            version = self.version()
            if self._cached is None or self._cached[1] != version:
                self._cached = _render(self.folder, version), version
            return self._cached[0]


def _render(folder: Path, version: str) -> str:
    if is_ladder(folder):
        contents, _ = read_ladder_page(folder)
        return contents.render(version=version)
    outcome = read_outcome(folder)
    analysis = without_paths(analyse(outcome))
    outcome = without_paths(outcome)
    figures, tables = build_figures(outcome, analysis), build_tables(outcome, analysis)
    return render_page(outcome, analysis, figures, tables, version=version)


class _Handler(BaseHTTPRequestHandler):
    server: ReportServer

    def do_GET(self) -> None:
        # Against DNS rebinding: the name of another site could resolve to this machine.
        if (self.headers.get("Host") or "").partition(":")[0] not in ("127.0.0.1", "localhost"):
            self.send_error(403)
        elif self.path in ("/", "/page"):
            self._send_page()
        elif self.path == "/version":
            self._send(200, "text/plain", self.server.version())
        else:
            self.send_error(404)

    def _send_page(self) -> None:
        try:
            self._send(200, "text/html", self.server.page())
        except FolderError as error:  # The folder was deleted after the server started.
            self._send(410, "text/plain", str(error))

    def _send(self, status: int, media_type: str, text: str) -> None:
        content = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", f"{media_type}; charset=utf-8")
        self.send_header("Content-Length", str(len(content)))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *arguments: object) -> None:
        """Log nothing: the page polls /version every two seconds."""
