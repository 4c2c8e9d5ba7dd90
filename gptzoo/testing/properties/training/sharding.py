"""Over two processes that each hold half of every block, or half of every product, training is what it is in one."""

from __future__ import annotations

import contextlib
import io
import tempfile
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.multiprocessing
from torch import Tensor

from gptzoo.checkpoint.sharded_tensors import full_tensor, reorder_rows
from gptzoo.errors import InputError
from gptzoo.testing.compare import CLOSE, distance
from gptzoo.testing.subject import PartSubject
from gptzoo.testing.verdict import Failed, Skipped
from gptzoo.utils.forking import NO_AUTOGRAD, autograd_works

_WORLD = 2
_SECONDS = 120


def sharding(subject: PartSubject) -> None:
    """FSDP2 (`fully_shard` on each block) over two gloo processes gives the gradients of one process."""
    _compare(subject, "sharded", _sharded_gradients)


def tensor_parallel(subject: PartSubject) -> None:
    """Two gloo processes that share products, as `tensor_parallel` of the part says, find the gradients of one."""
    _compare(subject, "shared by two processes", _shared_gradients)


def _compare(subject: PartSubject, how: str, gradients: Callable[[PartSubject], dict[str, Tensor]]) -> None:
    if "fork" not in torch.multiprocessing.get_all_start_methods() or not torch.distributed.is_gloo_available():
        raise Skipped("needs gloo and processes that can be forked")
    model = subject.model(dtype=torch.float64)
    _step(model, subject)
    expected = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    with tempfile.TemporaryDirectory() as folder:
        found = _in_two_processes(subject, how, gradients, Path(folder))
    for name, gradient in expected.items():
        if name not in found:
            raise Failed(f"{how}, no gradient reaches {name}")
        if (difference := distance(found[name], gradient).max()) > CLOSE:
            raise Failed(f"{how}, the gradient of {name} is off by {difference:.2g}")


def _in_two_processes(
    subject: PartSubject, how: str, gradients: Callable[[PartSubject], dict[str, Tensor]], folder: Path
) -> dict[str, Tensor]:
    # Forked, not spawned: a component that lives in a test or in a file of --plugin could not be imported again.
    context: Any = torch.multiprocessing.get_context("fork")
    processes = [
        context.Process(target=_work, args=(rank, subject, gradients, folder), daemon=True) for rank in range(_WORLD)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(_SECONDS)
    late = [process for process in processes if process.is_alive()]
    for process in late:
        process.kill()
    if told := sorted(folder.glob("refused-*")):
        raise Skipped(told[0].read_text())
    if told := sorted(folder.glob("error-*")):
        raise Failed(f"{how}, {told[0].read_text()}")
    if late:
        raise Failed(f"{how}, a step does not end within {_SECONDS} s: do all processes call the same modules?")
    if not (folder / "gradients").exists():
        raise Failed(f"{how}, a process ended with exit code {processes[0].exitcode}")
    return torch.load(folder / "gradients", weights_only=True)


def _work(rank: int, subject: PartSubject, gradients: Callable[[PartSubject], dict[str, Tensor]], folder: Path) -> None:
    """What each process does. Both have the same batch, so that the mean of their gradients is that of one process."""
    torch.set_num_threads(1)
    with contextlib.redirect_stderr(io.StringIO()):
        try:
            if not autograd_works():
                raise InputError(NO_AUTOGRAD)
            store = torch.distributed.FileStore(str(folder / "store"), _WORLD)
            torch.distributed.init_process_group("gloo", store=store, rank=rank, world_size=_WORLD)
            found = gradients(subject)
            if rank == 0:
                torch.save(found, folder / "gradients")
            torch.distributed.barrier()
            torch.distributed.destroy_process_group()
        except InputError as error:
            (folder / f"refused-{rank}").write_text(str(error))
        except BaseException as error:
            last = traceback.extract_tb(error.__traceback__)[-1]
            text = f"it raises {type(error).__name__}: {error}\n  at {last.filename}:{last.lineno}: {last.line}"
            (folder / f"error-{rank}").write_text(text)


def _sharded_gradients(subject: PartSubject) -> dict[str, Tensor]:
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    mesh = init_device_mesh("cpu", (_WORLD,))
    model = subject.model(dtype=torch.float64)
    for block in model.blocks:
        fully_shard(block, mesh=mesh)
    fully_shard(model, mesh=mesh)
    _step(model, subject)
    return {name: full_tensor(p.grad) for name, p in model.named_parameters() if p.grad is not None}


def _shared_gradients(subject: PartSubject) -> dict[str, Tensor]:
    from torch.distributed.device_mesh import init_device_mesh

    from gptzoo.training.distributed.tensor_parallel import share_out

    model = subject.model(dtype=torch.float64)
    shares = share_out(model, init_device_mesh("cpu", (_WORLD,)), torch.device("cpu"))
    _step(model, subject)
    shares.collect_gradients()
    found = {name: full_tensor(p.grad) for name, p in shares.whole.items() if p.grad is not None}
    return {name: reorder_rows(shares.orders, name, gradient, inverse=True) for name, gradient in found.items()}


def _step(model: Any, subject: PartSubject) -> None:
    tokens = subject.tokens(2, 8)
    torch.manual_seed(0)
    model.train()(tokens, tokens.roll(-1, 1))[1].backward()
