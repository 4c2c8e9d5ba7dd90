"""gptzoo doctor: what a bug report needs, and what is wrong with this installation."""

from __future__ import annotations

import json
import os
import re
from importlib import metadata
from pathlib import Path
from typing import Any

import click

from gptzoo import __version__
from gptzoo.cli.options import json_option

_VARIABLES = ("GPTZOO_", "OMP_", "MKL_", "CUDA_", "TORCH", "PYTORCH_", "TIKTOKEN_", "HF_")


@click.command()
@json_option
def doctor(as_json: bool) -> None:
    """Print what a bug report needs: versions, devices, plugins, settings; and what is wrong here, if anything.

    Exit code 1 when something is wrong.
    """
    report = _report()
    if as_json:
        click.echo(json.dumps(report, indent=2))
    else:
        _print(report)
    if report["problems"]:
        click.get_current_context().exit(1)


def _report() -> dict[str, Any]:
    import platform

    from gptzoo import registry

    found = registry.current()
    cache = _cache()
    return {
        "versions": {"python": platform.python_version(), **_versions()},
        "machine": {"system": platform.platform(), "cores": os.cpu_count(), "memory": _memory()},
        "torch": _torch(),
        "plugins": {origin.plugin: str(origin) for origin in found.plugins},
        "disabled": {origin.plugin: str(origin) for origin in found.disabled},
        "cache": cache["text"],
        "environment": {name: value for name, value in sorted(os.environ.items()) if name.startswith(_VARIABLES)},
        "problems": [*_quarantined(found), *cache["problems"]],
    }


def _versions() -> dict[str, str]:
    """gptzoo and all that it depends on, extras included where they are installed."""
    versions = {"gptzoo": __version__}
    try:
        requirements = metadata.requires("gptzoo") or ()
    except metadata.PackageNotFoundError:  # run from its source, without being installed
        requirements = ()
    for text in requirements:
        name = re.match(r"[\w.\-]+", text)[0]  # type: ignore[index]  # requirements begin with a name
        try:
            versions.setdefault(name, metadata.version(name))
        except metadata.PackageNotFoundError:  # of an extra that is not installed
            continue
    return versions


def _memory() -> str:
    try:
        return f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.1f} GiB"
    except (AttributeError, ValueError, OSError):  # not on Windows
        return "unknown"


def _torch() -> dict[str, Any]:
    import torch

    devices = [torch.cuda.get_device_properties(index) for index in range(torch.cuda.device_count())]
    return {
        "version": torch.__version__,
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version() if torch.cuda.is_available() else None,
        "devices": [f"{device.name}, {device.total_memory / 2**30:.0f} GiB" for device in devices] or ["cpu"],
        "threads": torch.get_num_threads(),
        "cpu": torch.backends.cpu.get_cpu_capability(),
    }


def _cache() -> dict[str, Any]:
    """Where prepared tokens and compiled code are kept, and whether they can be."""
    import shutil

    from gptzoo.utils.cache_folder import cache_folder

    folder = cache_folder()
    there: Path = next(place for place in (folder, *folder.parents) if place.exists())
    problems = []
    if not (there.is_dir() and os.access(there, os.W_OK)):
        problems.append(f"{folder}: cannot be written; set GPTZOO_CACHE to a folder that can")
    return {"text": f"{folder}, {shutil.disk_usage(there).free / 2**30:.0f} GiB free", "problems": problems}


def _quarantined(registry: Any) -> list[str]:
    return [f"plugin {bad.origin.plugin!r} ({bad.origin}) is refused: {bad.reason}" for bad in registry.quarantined]


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
        console.print(Text("nothing wrong", "green"))
    for problem in report["problems"]:
        console.print(Text(problem, "red"), soft_wrap=True)
