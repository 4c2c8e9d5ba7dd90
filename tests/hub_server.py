"""A local HTTP server that speaks the endpoints of the Hugging Face Hub which gptzoo uses, for its real client."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import yaml

TOKEN = "hf_" + "t" * 30
LARGE_SUFFIXES = (".safetensors", ".parquet", ".bin", ".pt")  # in large file storage


@dataclass
class Repository:
    """The commits of a repository, oldest first, each with all its files."""

    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    status: int = 200  # of answers to requests without the token
    error_code: str = ""
    private: bool | None = None

    def add_commit(self, files: Mapping[str, bytes]) -> str:
        content = repr((len(self.commits), sorted(files.items()))).encode()
        commit = hashlib.sha1(content).hexdigest()
        self.commits[commit] = dict(files)
        return commit

    @property
    def head(self) -> str:
        return list(self.commits)[-1]


class HubServer(ThreadingHTTPServer):
    """The server. `repositories` maps "models/ORG/NAME" or "datasets/ORG/NAME" to repositories."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.repositories: dict[str, Repository] = {}
        self.uploads: dict[str, bytes] = {}
        self.requests: list[str] = []  # "GET /path"
        self.corrupt: set[str] = set()  # paths of files whose content arrives damaged

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def add(self, name: str, files: Mapping[str, bytes | str], kind: str = "models") -> str:
        """Add a commit with these files to a repository, and return its hash."""
        repository = self.repositories.setdefault(f"{kind}/{name}", Repository())
        return repository.add_commit({p: c.encode() if isinstance(c, str) else c for p, c in files.items()})

    def add_folder(self, name: str, folder: Path, kind: str = "models") -> str:
        paths = (path for path in sorted(folder.rglob("*")) if path.is_file())
        return self.add(name, {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}, kind)

    def files(self, name: str, kind: str = "models") -> dict[str, bytes]:
        """Return the files of the newest commit."""
        repository = self.repositories[f"{kind}/{name}"]
        return repository.commits[repository.head]


@contextmanager
def serve_hub() -> Iterator[HubServer]:
    server = HubServer()
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Refused(Exception):
    def __init__(self, status: int, code: str = "", message: str = ""):
        self.status, self.code, self.message = status, code, message


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: HubServer

    def log_message(self, *arguments: Any) -> None:
        pass

    def do_GET(self) -> None:
        self._answer()

    def do_HEAD(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer()

    def do_PUT(self) -> None:
        self._answer()

    def _answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        path = unquote(urlsplit(self.path).path)
        self.server.requests.append(f"{self.command} {path}")
        try:
            self._route(path, body)
        except _Refused as refused:
            headers = {"X-Error-Code": refused.code} if refused.code else {}
            if refused.message:
                headers["X-Error-Message"] = refused.message
            # As the hub does, name the repository that exists already.
            name = json.loads(body or b"{}") if path == "/api/repos/create" else {}
            url = f"{self.server.url}/{name.get('organization')}/{name.get('name')}"
            self._send(refused.status, json.dumps({"url": url}).encode(), headers)

    def _route(self, path: str, body: bytes) -> None:
        if path == "/api/repos/create":
            return self._create(json.loads(body))
        if path == "/api/validate-yaml":
            yaml.safe_load(json.loads(body)["content"].split("---\n")[1])
            return self._send_json({"errors": [], "warnings": []})
        if match := re.fullmatch(r"/upload/(\w+)", path):
            self.server.uploads[match[1]] = body
            return self._send(200, b"")
        if match := re.fullmatch(r"/([\w.-]+/[\w.-]+)\.git/info/lfs/objects/batch", path):
            self._require_token()
            return self._batch(json.loads(body))
        if match := re.fullmatch(r"/api/((?:models|datasets)/[^/]+/[^/]+)(?:/([\w-]+)(?:/(.*))?)?", path):
            repository = self._repository(match[1])
            action, rest = match[2] or "revision", match[3] or "main"
            return getattr(self, f"_{action.replace('-', '_')}")(repository, match[1], rest, body)
        if match := re.fullmatch(r"/(?:(datasets)/)?([^/]+/[^/]+)/resolve/([^/]+)/(.*)", path):
            return self._resolve(self._repository(f"{match[1] or 'models'}/{match[2]}"), match[3], match[4])
        raise _Refused(404)

    def _repository(self, key: str) -> Repository:
        repository = self.server.repositories.get(key)
        if repository is None:
            raise _Refused(401 if self._token() is None else 404, "RepoNotFound", "Repository not found")
        if repository.status != 200 and self._token() != TOKEN:
            raise _Refused(repository.status, repository.error_code)
        return repository

    def _token(self) -> str | None:
        return (self.headers.get("Authorization") or "").removeprefix("Bearer ") or None

    def _require_token(self) -> None:
        if self._token() != TOKEN:
            raise _Refused(401 if self._token() is None else 403, message="Invalid credentials")

    def _commit_of(self, repository: Repository, revision: str) -> str:
        if revision == "main" and repository.commits:
            return repository.head
        if revision in repository.commits:
            return revision
        raise _Refused(404, "RevisionNotFound")

    # ------------------------------------------------------------------ reading

    def _revision(self, repository: Repository, key: str, revision: str, body: bytes) -> None:
        commit = self._commit_of(repository, revision)
        siblings = [{"rfilename": path} for path in repository.commits[commit]]
        self._send_json(
            {"id": key.partition("/")[2], "sha": commit, "siblings": siblings, "private": False, "tags": []}
        )

    def _tree(self, repository: Repository, key: str, rest: str, body: bytes) -> None:
        revision, _, folder = rest.partition("/")
        files = repository.commits[self._commit_of(repository, revision)]
        recursive = "recursive=true" in self.path.lower()
        prefix = f"{folder}/" if folder else ""
        inside = {path: content for path, content in files.items() if path.startswith(prefix)}
        if folder and not inside:
            raise _Refused(404, "EntryNotFound")
        entries = {path: _entry(path, content) for path, content in inside.items()}
        if not recursive:
            names = {path: prefix + path.removeprefix(prefix).partition("/")[0] for path in entries}
            entries = {name: entries[path] if name == path else _folder(name) for path, name in names.items()}
        self._send_json(list(entries.values()))

    def _paths_info(self, repository: Repository, key: str, revision: str, body: bytes) -> None:
        files = repository.commits[self._commit_of(repository, revision)]
        text = body.decode()
        wanted = json.loads(text)["paths"] if text.startswith("{") else re.findall(r"paths=([^&]+)", text)
        wanted = [unquote(path.replace("+", " ")) for path in ([wanted] if isinstance(wanted, str) else wanted)]
        entries = [_entry(path, files[path]) for path in wanted if path in files]
        entries += [_folder(path) for path in wanted if any(name.startswith(f"{path}/") for name in files)]
        self._send_json(entries)

    def _resolve(self, repository: Repository, revision: str, path: str) -> None:
        commit = self._commit_of(repository, revision)
        content = repository.commits[commit].get(path)
        if content is None:
            raise _Refused(404, "EntryNotFound")
        headers = {"ETag": f'"{_digest(path, content)}"', "X-Repo-Commit": commit, "Accept-Ranges": "bytes"}
        if path in self.server.corrupt:
            content = content[:-1] + bytes([content[-1] ^ 1])
        if match := re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range") or ""):
            start, end = int(match[1]), int(match[2] or len(content) - 1)
            headers["Content-Range"] = f"bytes {start}-{min(end, len(content) - 1)}/{len(content)}"
            return self._send(206, content[start : end + 1], headers)
        return self._send(200, content, headers)

    # ------------------------------------------------------------------ writing

    def _create(self, request: dict[str, Any]) -> None:
        self._require_token()
        key = f"{request.get('type', 'model')}s/{request['organization']}/{request['name']}"
        if key in self.server.repositories:
            raise _Refused(409)
        private = request.get("private", None if "visibility" not in request else request["visibility"] == "private")
        repository = self.server.repositories[key] = Repository(private=private)
        repository.add_commit({".gitattributes": b"*.safetensors filter=lfs\n"})
        self._send_json({"url": f"{self.server.url}/{request['organization']}/{request['name']}"})

    def _preupload(self, repository: Repository, key: str, revision: str, body: bytes) -> None:
        self._require_token()
        paths = [file["path"] for file in json.loads(body)["files"]]
        modes = {path: "lfs" if path.endswith(LARGE_SUFFIXES) else "regular" for path in paths}
        self._send_json(
            {
                "files": [
                    {"path": p, "uploadMode": mode, "shouldIgnore": False, "oid": None} for p, mode in modes.items()
                ]
            }
        )

    def _batch(self, request: dict[str, Any]) -> None:
        answers = [
            {**wanted, "actions": {"upload": {"href": f"{self.server.url}/upload/{wanted['oid']}", "header": {}}}}
            for wanted in request["objects"]
        ]
        self._send_json({"transfer": "basic", "objects": answers}, "application/vnd.git-lfs+json")

    def _commit(self, repository: Repository, key: str, revision: str, body: bytes) -> None:
        self._require_token()
        files = dict(repository.commits[self._commit_of(repository, revision)])
        for line in body.splitlines():
            entry = json.loads(line)
            value = entry["value"]
            if entry["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif entry["key"] == "lfsFile":
                content = self.server.uploads[value["oid"]]
                assert hashlib.sha256(content).hexdigest() == value["oid"]
                files[value["path"]] = content
            elif entry["key"] == "deletedFile":
                del files[value["path"]]
        commit = repository.add_commit(files)
        name = key.partition("/")[2]
        self._send_json(
            {"commitUrl": f"{self.server.url}/{name}/commit/{commit}", "commitOid": commit, "success": True}
        )

    # ------------------------------------------------------------------ answers

    def _send_json(self, value: object, content_type: str = "application/json") -> None:
        self._send(200, json.dumps(value).encode(), {"Content-Type": content_type})

    def _send(self, status: int, content: bytes, headers: Mapping[str, str] = {}) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)


def _digest(path: str, content: bytes) -> str:
    if path.endswith(LARGE_SUFFIXES):
        return hashlib.sha256(content).hexdigest()
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def _entry(path: str, content: bytes) -> dict[str, Any]:
    entry: dict[str, Any] = {"type": "file", "path": path, "size": len(content), "oid": _digest(path, content)}
    if path.endswith(LARGE_SUFFIXES):
        entry["lfs"] = {"oid": hashlib.sha256(content).hexdigest(), "size": len(content), "pointerSize": 134}
    return entry


def _folder(path: str) -> dict[str, Any]:
    return {"type": "directory", "path": path, "size": 0, "oid": hashlib.sha1(path.encode()).hexdigest()}
