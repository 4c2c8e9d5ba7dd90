"""Fixtures for all tests: devices, a fresh registry, and packages that appear to be installed."""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported: tiny models are slower with more
os.environ.setdefault("GPTZOO_PLUGINS", "none")  # tests must not depend on installed plugins

import copy
import importlib
import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from hub_server import HubServer, serve_hub
from hypothesis import settings
from support import CPU_ARITHMETICS, CUDA_ARITHMETICS, SPECS, Arithmetic

from gptzoo import registry

if not torch.cuda.is_available():
    # Start autograd before a FakeTensorMode pretends that there is a GPU (see gptzoo.utils.forking).
    torch.ones((), requires_grad=True).backward()

# Draw the same examples each time, and do not fail on a busy machine.
settings.register_profile("gptzoo", deadline=None, derandomize=True)
settings.load_profile("gptzoo")


def _on_cuda(value: Any) -> Any:
    return pytest.param(value, marks=pytest.mark.cuda, id=str(getattr(value, "name", value)))


def _need(device: str) -> None:
    if device == "cuda" and not torch.cuda.is_available():
        pytest.skip("torch sees no CUDA device here")


@pytest.fixture(params=["cpu", _on_cuda("cuda")])
def device(request: pytest.FixtureRequest) -> str:
    """The device of the model: the CPU, and CUDA with `-m cuda`."""
    _need(request.param)
    return request.param


@pytest.fixture(
    params=[*(pytest.param(a, id=a.name) for a in CPU_ARITHMETICS), *(_on_cuda(a) for a in CUDA_ARITHMETICS)]
)
def arithmetic(request: pytest.FixtureRequest) -> Iterator[Arithmetic]:
    """Device, dtype and tolerance: fp32 and fp64 on the CPU; fp32 and bf16 on CUDA with `-m cuda`."""
    _need(request.param.device)
    with request.param.context():
        yield request.param


@pytest.fixture(params=SPECS.values(), ids=SPECS.keys())
def any_spec(request: pytest.FixtureRequest) -> dict[str, Any]:
    """One of the specs that together cover the registry."""
    return request.param


@pytest.fixture(autouse=True)
def silence(monkeypatch: pytest.MonkeyPatch) -> None:
    """No lines on stderr about commands that take long, which would depend on the speed of the machine."""
    monkeypatch.setattr("gptzoo.terminal.activity.SECONDS_OF_SILENCE", float("inf"))


@pytest.fixture(scope="session")
def builtin_registry() -> registry.Registry:
    """A registry with only the built-in components. Tests get copies of it."""
    return registry.discover("none")


@pytest.fixture
def fresh_registry(builtin_registry: registry.Registry) -> Iterator[registry.Registry]:
    """A registry with only the built-in components, used until the test ends."""
    fresh = copy.copy(builtin_registry)
    for name, container in vars(fresh).items():
        setattr(fresh, name, copy.copy(container))
    fresh._classes = {kind: dict(of_kind) for kind, of_kind in builtin_registry._classes.items()}
    with registry.use(fresh):
        yield fresh


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """A function `install(name, source)` that installs a package with a plugin."""
    site = tmp_path / "site-packages"
    site.mkdir()
    monkeypatch.syspath_prepend(str(site))
    before = set(sys.modules)

    def install(name: str, source: str, *, version: str = "1.2.3", metadata: bool = True) -> None:
        module = "theirs_" + name.replace("-", "_")
        (site / f"{module}.py").write_text(source)
        info = site / f"{module}-{version}.dist-info"
        info.mkdir()
        (info / "entry_points.txt").write_text(f"[gptzoo]\n{name} = {module}\n")
        if metadata:
            (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: gptzoo-{name}\nVersion: {version}\n")
        importlib.invalidate_caches()

    yield install
    for module in set(sys.modules) - before:
        if module.startswith("theirs_"):
            del sys.modules[module]


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Fail a test that looks up another machine, since it would depend on the network or download data."""
    looked_up: set[str] = set()
    local = {"", "localhost", "127.0.0.1", "::1", "0.0.0.0", socket.gethostname()}
    look_up = socket.getaddrinfo

    def record(host: str | bytes | None, *arguments: Any, **options: Any) -> Any:
        name = host.decode() if isinstance(host, bytes) else host or ""
        if name not in local:
            looked_up.add(name)
            raise socket.gaierror(socket.EAI_NONAME, "tests have no network")
        return look_up(host, *arguments, **options)

    monkeypatch.setattr(socket, "getaddrinfo", record)
    yield
    assert not looked_up


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    """A local server in the place of the Hugging Face Hub, with empty caches and without a login."""
    constants = pytest.importorskip("huggingface_hub.constants")
    with serve_hub() as server:
        monkeypatch.setattr(constants, "ENDPOINT", server.url)
        template = server.url + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "huggingface"))
        monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "no token"))
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)  # the server speaks plain HTTP
        monkeypatch.delenv("HF_TOKEN", raising=False)
        monkeypatch.setenv("GPTZOO_CACHE", str(tmp_path / "cache"))
        yield server
