"""The report of a running ablation over HTTP on this machine, made anew when its files have changed."""

from __future__ import annotations

import hashlib
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from gptzoo.ablation.planning.folder import read_outcome
from gptzoo.ablation.report.figures import figures
from gptzoo.ablation.report.page import page
from gptzoo.ablation.report.tables import tables
from gptzoo.ablation.statistics.analyse import analyse
from gptzoo.errors import FolderError, InputError

_WATCHED = ("*.json", "trials/*/*.json", "trials/*/*.jsonl", "trials/*/sample.txt")


class ReportServer(ThreadingHTTPServer):
    """Serves one ablation, to this machine only: the page, and the version of what it shows."""

    daemon_threads = True

    def __init__(self, folder: Path, port: int):
        """Listens at once; port 0 takes any. Raises FolderError where there is no ablation, InputError for the port."""
        read_outcome(folder)
        self.folder = folder
        self.lock = threading.Lock()
        self.made: tuple[str, str] | None = None  # the last page, and its version
        try:
            super().__init__(("127.0.0.1", port), _Handler)
        except OSError as error:
            raise InputError(f"port {port}: {error.strerror}; choose another --port, or 0 for any") from None

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/"

    def version(self) -> str:
        """Changes when anything does that the page shows. Looks at no file's content."""
        files = sorted(file for pattern in _WATCHED for file in self.folder.glob(pattern))
        state = hashlib.sha256()
        for file in files:
            try:
                found = file.stat()
            except FileNotFoundError:  # replaced just now
                continue
            state.update(f"{file} {found.st_mtime_ns} {found.st_size}\n".encode())
        return state.hexdigest()[:16]

    def page(self) -> str:
        """The page as of now; made once for each version, however many ask."""
        with self.lock:
            version = self.version()
            if self.made is None or self.made[1] != version:
                outcome = read_outcome(self.folder)
                analysis = analyse(outcome)
                found = page(outcome, analysis, figures(outcome, analysis), tables(outcome, analysis), version=version)
                self.made = found, version
            return self.made[0]


class _Handler(BaseHTTPRequestHandler):
    server: ReportServer

    def do_GET(self) -> None:
        # Another site could have its name resolve to this machine, and read along.
        if (self.headers.get("Host") or "").partition(":")[0] not in ("127.0.0.1", "localhost"):
            self.send_error(403)
        elif self.path in ("/", "/page"):
            self._answer_page()
        elif self.path == "/version":
            self._answer(200, "text/plain", self.server.version())
        else:
            self.send_error(404)

    def _answer_page(self) -> None:
        try:
            self._answer(200, "text/html", self.server.page())
        except FolderError as error:  # the folder has been taken away
            self._answer(410, "text/plain", str(error))

    def _answer(self, status: int, media_type: str, text: str) -> None:
        content = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", f"{media_type}; charset=utf-8")
        self.send_header("Content-Length", str(len(content)))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *arguments: Any) -> None:
        """Requests are nobody's news."""
