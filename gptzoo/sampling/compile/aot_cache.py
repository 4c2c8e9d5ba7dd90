"""Exported steps as machine code, which is kept: to make it takes half a minute, to load it less than a second."""

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

from gptzoo.sampling.compile.export import Conditions, Exported
from gptzoo.utils.atomic import PREFIX
from gptzoo.utils.cache_folder import cache_folder

_VERSION = 1  # of what is kept, and of how gptzoo has torch compile its own operators


class Code(NamedTuple):
    """A step as a function of the tensors that its program takes, for inputs that meet the conditions."""

    run: Callable[[list[Tensor]], list[Tensor]]
    conditions: Conditions


def compiled_ahead(exported: Exported, inputs: Sequence[Tensor]) -> Code:
    """Code for these inputs. Raises whatever torch does where it cannot compile the program.

    What was compiled once is found again under $GPTZOO_CACHE (or ~/.cache/gptzoo); what cannot be read is made anew.
    """
    device = inputs[0].device
    folder = cache_folder() / "compiled"
    key = _key(exported, device)
    for kept in _found(folder, key):
        try:
            clauses = json.loads(kept.with_suffix(".json").read_text())
            if (conditions := exported.conditions(clauses)).hold(inputs):
                return Code(_load(kept, device), conditions)
        except Exception as error:  # torch does not say which ones its loader raises
            warnings.warn(f"{kept} cannot be read, and its code is made anew: {error}", stacklevel=2)
    with tempfile.TemporaryDirectory() as temporary:
        made = Path(temporary) / "step.pt2"
        with warnings.catch_warnings(category=FutureWarning, action="ignore"):  # torch about its own code
            torch._inductor.aoti_compile_and_package(exported.program, package_path=str(made))
        clauses = exported.clauses()
        try:
            _keep(made, clauses, folder, key)
        except OSError as error:
            warnings.warn(f"{folder}: compiled code cannot be kept there: {error.strerror}", stacklevel=2)
        return Code(_load(made, device), exported.conditions(clauses))


def _found(folder: Path, key: str) -> list[Path]:
    try:
        return sorted(folder.glob(f"{key}-*.pt2"))
    except OSError:
        return []


def _load(package: Path, device: torch.device) -> Callable[[list[Tensor]], list[Tensor]]:
    # Whoever records CUDA graphs must not meet the locks by which several threads could use the code at once.
    alone, index = device.type == "cuda", -1 if device.index is None else device.index
    loaded = [torch._inductor.aoti_load_package(str(package), run_single_threaded=alone, device_index=index)]

    def run(tensors: list[Tensor]) -> list[Tensor]:
        outputs: list[Tensor] = loaded[0].loader.run(tensors)  # past the search for tensors in nested arguments
        return outputs

    weakref.finalize(run, loaded.clear)  # so that it is gone, with the files that it unpacked, when Python ends
    return run


def _keep(made: Path, clauses: Sequence[str], folder: Path, key: str) -> None:
    """Several may be kept under one key: compilers decide by sizes that the program leaves open."""
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(clauses, indent=1)
    name = f"{key}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"
    with tempfile.TemporaryDirectory(dir=folder, prefix=PREFIX) as temporary:
        shutil.copyfile(made, Path(temporary) / "code")
        (Path(temporary) / "clauses").write_text(text)
        os.replace(Path(temporary) / "clauses", folder / f"{name}.json")  # first: code is looked for by its own file
        os.replace(Path(temporary) / "code", folder / f"{name}.pt2")


def _key(exported: Exported, device: torch.device) -> str:
    """What the machine code depends on: what is computed of what, by which torch, for which machine."""
    program = exported.program
    parts = [str(_VERSION), torch.__version__, str(torch.version.git_version), torch._inductor.config.get_hash().hex()]
    parts += [platform.machine(), str(torch.cpu.get_capabilities())]
    parts.append(torch.cuda.get_device_name(device) if device.type == "cuda" else str(torch.get_num_threads()))
    parts += [module.code for module in program.graph_module.modules() if isinstance(module, GraphModule)]
    parts += exported.clauses()
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
