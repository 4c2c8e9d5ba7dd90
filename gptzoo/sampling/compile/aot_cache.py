"""Ahead-of-time compilation of exported decode steps, with a cache on disk.

Compilation takes about half a minute; loading the result takes less than a second.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shutil
import tempfile
import warnings
import weakref
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor
from torch.fx import GraphModule

from gptzoo.sampling.compile.export import ExportedStep, Guards
from gptzoo.terminal.activity import activity
from gptzoo.utils.atomic import INCOMPLETE_PREFIX
from gptzoo.utils.cache_folder import cache_folder

_VERSION = 1  # increase it when the cached files, or the lowering of gptzoo's own operators, change


class CompiledCode(NamedTuple):
    """A compiled decode step: a function of tensors, and the guards under which it is valid."""

    run: Callable[[list[Tensor]], list[Tensor]]
    guards: Guards


def load_or_compile(exported: ExportedStep, inputs: Sequence[Tensor]) -> CompiledCode:
    """Return compiled code that is valid for these inputs, from the cache if possible.

    The cache is in $GPTZOO_CACHE (default: ~/.cache/gptzoo). Unreadable entries are compiled again. If torch cannot
    compile the program, its exception is raised.
    """
    device = inputs[0].device
    folder = cache_folder() / "compiled"
    key = _cache_key(exported, device)
    for package in _cached_packages(folder, key):
        try:
            guards = exported.guards(json.loads(package.with_suffix(".json").read_text()))
            if guards.accept(inputs):
                return CompiledCode(_load_package(package, device), guards)
        except Exception as error:  # torch does not document what its loader raises
            warnings.warn(f"{package}: cannot be read, so the code is compiled again: {error}", stacklevel=2)
    with tempfile.TemporaryDirectory() as temporary:
        package = Path(temporary) / "step.pt2"
        # torch warns about its own code.
        with warnings.catch_warnings(category=FutureWarning, action="ignore"), activity("compiling the decode step"):
            torch._inductor.aoti_compile_and_package(exported.program, package_path=str(package))
        expressions = exported.guard_expressions()  # compilation adds guards
        try:
            _store(package, expressions, folder, key)
        except OSError as error:
            warnings.warn(f"{folder}: compiled code cannot be cached: {error.strerror}", stacklevel=2)
        return CompiledCode(_load_package(package, device), exported.guards(expressions))


def _cached_packages(folder: Path, key: str) -> list[Path]:
    try:
        return sorted(folder.glob(f"{key}-*.pt2"))
    except OSError:
        return []


def _load_package(package: Path, device: torch.device) -> Callable[[list[Tensor]], list[Tensor]]:
    # The locks that make the code thread-safe cannot be captured in a CUDA graph.
    single_threaded = device.type == "cuda"
    index = -1 if device.index is None else device.index
    loaded = [torch._inductor.aoti_load_package(str(package), run_single_threaded=single_threaded, device_index=index)]

    def run(tensors: list[Tensor]) -> list[Tensor]:
        # Calling the loader directly skips torch's search for tensors in nested arguments.
        outputs: list[Tensor] = loaded[0].loader.run(tensors)
        return outputs

    weakref.finalize(run, loaded.clear)  # deletes the unpacked files when Python exits
    return run


def _store(package: Path, guard_expressions: Sequence[str], folder: Path, key: str) -> None:
    """Add a package to the cache. There can be several under one key, because the compiler adds guards on sizes."""
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(guard_expressions, indent=1)
    name = f"{key}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"
    with tempfile.TemporaryDirectory(dir=folder, prefix=INCOMPLETE_PREFIX) as temporary:
        shutil.copyfile(package, Path(temporary) / "code")
        (Path(temporary) / "guards").write_text(text)
        # The guards come first, because readers look for the package.
        os.replace(Path(temporary) / "guards", folder / f"{name}.json")
        os.replace(Path(temporary) / "code", folder / f"{name}.pt2")


def _cache_key(exported: ExportedStep, device: torch.device) -> str:
    """Return a digest of all that the machine code depends on: the program, its inputs, torch and the machine."""
    program = exported.program
    parts = [str(_VERSION), torch.__version__, str(torch.version.git_version), torch._inductor.config.get_hash().hex()]
    parts += [platform.machine(), str(torch.cpu.get_capabilities())]
    parts.append(torch.cuda.get_device_name(device) if device.type == "cuda" else str(torch.get_num_threads()))
    parts += [module.code for module in program.graph_module.modules() if isinstance(module, GraphModule)]
    parts += exported.guard_expressions()
    for node in program.graph.nodes:
        if node.op == "placeholder" and isinstance(value := node.meta["val"], Tensor):
            strides = () if value.layout is not torch.strided else value.stride()
            parts.append(f"{value.dtype} {value.device} {value.layout} {value.shape} {strides}")
    for name, constant in program.constants.items():
        parts += [name, str(constant.tolist() if isinstance(constant, Tensor) else constant)]
    digest = hashlib.sha256()
    for part in parts:
        digest.update(f"{len(part)} {part}".encode())
    return digest.hexdigest()
