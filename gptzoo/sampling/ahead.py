"""Exported programs as machine code, which is kept: to make it takes half a minute, to load it less than a second."""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import tempfile
import warnings
import weakref
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor
from torch.export import ExportedProgram
from torch.fx import GraphModule

from gptzoo.atomic import PREFIX
from gptzoo.cache import cache_folder

Run = Callable[[list[Tensor]], list[Tensor]]


def compiled_ahead(program: ExportedProgram, device: torch.device) -> Run:
    """The program as a function of its tensors, in order. Raises whatever torch does where it cannot compile it.

    What was compiled once is found again under $GPTZOO_CACHE (or ~/.cache/gptzoo); what cannot be read is made anew.
    """
    kept = cache_folder() / "compiled" / f"{_key(program, device)}.pt2"
    if kept.is_file():
        try:
            return _load(kept, device)
        except Exception as error:  # torch does not say which ones its loader raises
            warnings.warn(f"{kept} is made anew, as it cannot be read: {error}", stacklevel=2)
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / "step.pt2"
        with warnings.catch_warnings(category=FutureWarning, action="ignore"):  # torch about its own code
            torch._inductor.aoti_compile_and_package(program, package_path=str(made))
        try:
            _keep(made, kept)
        except OSError as error:
            warnings.warn(f"{kept}: compiled code cannot be kept there: {error.strerror}", stacklevel=2)
        return _load(made, device)


def _load(package: Path, device: torch.device) -> Run:
    on_cuda = device.type == "cuda"
    # Whoever records CUDA graphs must not meet the locks by which several threads could use the code at once.
    loaded = [torch._inductor.aoti_load_package(str(package), run_single_threaded=on_cuda)]

    def run(tensors: list[Tensor]) -> list[Tensor]:
        outputs: list[Tensor] = loaded[0].loader.run(tensors)  # past the search for tensors in nested arguments
        return outputs

    weakref.finalize(run, loaded.clear)  # so that it is gone, with the files that it unpacked, when Python ends
    return run


def _keep(made: Path, kept: Path) -> None:
    kept.parent.mkdir(parents=True, exist_ok=True)
    unfinished = kept.with_name(f"{PREFIX}{kept.name}-{os.getpid()}")
    try:
        shutil.copyfile(made, unfinished)
        os.replace(unfinished, kept)
    finally:
        unfinished.unlink(missing_ok=True)


def _key(program: ExportedProgram, device: torch.device) -> str:
    """What the machine code depends on: what is computed of what, by which torch, for which machine."""
    parts = [torch.__version__, torch.version.git_version, platform.machine(), str(torch.cpu.get_capabilities())]
    parts.append(torch.cuda.get_device_name(device) if device.type == "cuda" else str(torch.get_num_threads()))
    parts += [module.code for module in program.graph_module.modules() if isinstance(module, GraphModule)]
    parts.append(str(program.range_constraints))
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
