"""`gptzoo doctor`: the environment for a bug report, and problems of the installation."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gptzoo import __version__
from gptzoo.cli.options import json_option
from gptzoo.utils.json_text import to_json

if TYPE_CHECKING:
    from gptzoo.registry import Registry

_VARIABLES = ("GPTZOO_", "OMP_", "MKL_", "CUDA_", "TORCH", "PYTORCH_", "TIKTOKEN_", "HF_")
_SECRET_NAME = re.compile(r"(_|^)(TOKEN|KEY|SECRET|PASSWORD|CREDENTIALS?)(_|$)")
_PASSWORD_IN_URL = re.compile(r"(?<=://)[^/@\s]+(?=@)")


@click.command()
@json_option
def doctor(as_json: bool) -> None:
    """Print versions, devices, plugins and settings for a bug report, and any problems of the installation.

    The exit code is 1 if there is a problem.
    """
    report = _collect()
    if as_json:
        click.echo(to_json(report, indent=2))
    else:
        _print(report)
    if report["problems"]:
        click.get_current_context().exit(1)


def _collect() -> dict[str, Any]:
    import platform

    from gptzoo import registry

    plugins = registry.current()
    cache_text, cache_problems = _check_cache()
    return {
        "versions": {"python": platform.python_version(), **_versions()},
        "machine": {"system": platform.platform(), "cores": os.cpu_count(), "memory": _memory()},
        "torch": _torch(),
        "plugins": {origin.plugin: str(origin) for origin in plugins.plugins},
        "disabled": {origin.plugin: str(origin) for origin in plugins.disabled},
        "cache": cache_text,
        "environment": dict(_variables()),
        "problems": [*_plugin_problems(plugins), *cache_problems],
    }


def _variables() -> Iterator[tuple[str, str]]:
    """Yield the environment variables that matter, without secrets: the report is made for publication."""
    for name, value in sorted(os.environ.items()):
        if name.startswith(_VARIABLES):
            shown = _PASSWORD_IN_URL.sub("(not shown)", value)
            yield name, "(set, not shown)" if _SECRET_NAME.search(name) else shown


def _versions() -> dict[str, str]:
    """Return the versions of gptzoo and its installed dependencies, including those of extras."""
    versions = {"gptzoo": __version__}
    try:
        requirements = metadata.requires("gptzoo") or ()
    except metadata.PackageNotFoundError:  # run from a source tree that is not installed
        requirements = ()
    for text in requirements:
        name = re.match(r"[\w.\-]+", text)[0]  # type: ignore[index]  # a requirement starts with a name
        try:
            versions.setdefault(name, metadata.version(name))
        except metadata.PackageNotFoundError:  # a dependency of an extra that is not installed
            continue
    return versions


def _memory() -> str:
    try:
        return f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.1f} GiB"
    except (AttributeError, ValueError, OSError):  # not available on Windows
        return "unknown"


def _torch() -> dict[str, Any]:
    import torch

    devices = [torch.cuda.get_device_properties(index) for index in range(torch.cuda.device_count())]
    return {
        "version": torch.__version__,
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version() if torch.cuda.is_available() else None,
        "devices": [f"{device.name}, {device.total_memory / 2**30:.0f} GiB" for device in devices]
        or (["mps"] if torch.backends.mps.is_available() else ["cpu"]),
        "threads": torch.get_num_threads(),
        "cpu": torch.backends.cpu.get_cpu_capability(),
    }


def _check_cache() -> tuple[str, list[str]]:
    """Return a description of the cache folder, and a problem if it is not writable."""
    import shutil

    from gptzoo.utils.cache_folder import cache_folder

    folder = cache_folder()
    existing: Path = next(path for path in (folder, *folder.parents) if path.exists())
    problems = []
    if not (existing.is_dir() and os.access(existing, os.W_OK)):
        problems.append(f"{folder}: not writable; set GPTZOO_CACHE to a writable folder")
    return f"{folder}, {shutil.disk_usage(existing).free / 2**30:.0f} GiB free", problems


def _plugin_problems(plugins: Registry) -> list[str]:
    return [f"plugin {bad.origin.plugin!r} ({bad.origin}) is disabled: {bad.reason}" for bad in plugins.refused]


def _print(report: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.text import Text

    console = Console(highlight=False)
    for title, value in report.items():
        if title == "problems" or not value:
            continue
        console.print(Text(title, "bold"))
        rows = value.items() if isinstance(value, dict) else [("", value)]
        for name, item in rows:
            text = ", ".join(map(str, item)) if isinstance(item, list) else str(item)
            console.print(Text.assemble((f"  {name} " if name else "  ", "dim"), text), soft_wrap=True)
    if not report["problems"]:
        console.print(Text("no problems found", "green"))
    for problem in report["problems"]:
        console.print(Text(problem, "red"), soft_wrap=True)
