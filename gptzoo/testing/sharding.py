"""Over two processes that each hold half of every block, training is what it is in one."""

from __future__ import annotations

import contextlib
import io
import tempfile
import traceback
from pathlib import Path
from typing import Any

import torch
import torch.multiprocessing
from torch import Tensor

from gptzoo.testing.compare import CLOSE, distance
from gptzoo.testing.subject import PartSubject
from gptzoo.testing.verdict import Failed, Skipped

_WORLD = 2
_SECONDS = 120


def sharding(subject: PartSubject) -> None:
    """FSDP2 (`fully_shard` on each block) over two gloo processes gives the gradients of one process."""
    if "fork" not in torch.multiprocessing.get_all_start_methods() or not torch.distributed.is_gloo_available():
        raise Skipped("needs gloo and processes that can be forked")
    expected = _gradients(subject.model(dtype=torch.float64), subject)
    with tempfile.TemporaryDirectory() as folder:
        found = _in_two_processes(subject, Path(folder))
    for name, gradient in expected.items():
        if name not in found:
            raise Failed(f"sharded, no gradient reaches {name}")
        if (difference := distance(found[name], gradient).max()) > CLOSE:
            raise Failed(f"sharded, the gradient of {name} is off by {difference:.2g}")


def _in_two_processes(subject: PartSubject, folder: Path) -> dict[str, Tensor]:
    # Forked, not spawned: a component that lives in a test or in a file of --plugin could not be imported again.
    context: Any = torch.multiprocessing.get_context("fork")
    processes = [context.Process(target=_work, args=(rank, subject, folder), daemon=True) for rank in range(_WORLD)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(_SECONDS)
    late = [process for process in processes if process.is_alive()]
    for process in late:
        process.kill()
    if told := sorted(folder.glob("error-*")):
        raise Failed(f"sharded, {told[0].read_text()}")
    if late:
        raise Failed(f"sharded, a step does not end within {_SECONDS} s: do all processes call the same modules?")
    if not (folder / "gradients").exists():
        raise Failed(f"sharded, a process ended with exit code {processes[0].exitcode}")
    return torch.load(folder / "gradients", weights_only=True)


def _work(rank: int, subject: PartSubject, folder: Path) -> None:
    """What each process does. Both have the same batch, so that the mean of their gradients is that of one process."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    torch.set_num_threads(1)
    with contextlib.redirect_stderr(io.StringIO()):
        try:
            store = torch.distributed.FileStore(str(folder / "store"), _WORLD)
            torch.distributed.init_process_group("gloo", store=store, rank=rank, world_size=_WORLD)
            mesh = init_device_mesh("cpu", (_WORLD,))
            model = subject.model(dtype=torch.float64)
            for block in model.blocks:
                fully_shard(block, mesh=mesh)
            fully_shard(model, mesh=mesh)
            gradients = _gradients(model, subject)
            if rank == 0:
                torch.save(gradients, folder / "gradients")
            torch.distributed.barrier()
            torch.distributed.destroy_process_group()
        except BaseException as error:
            last = traceback.extract_tb(error.__traceback__)[-1]
            text = f"it raises {type(error).__name__}: {error}\n  at {last.filename}:{last.lineno}: {last.line}"
            (folder / f"error-{rank}").write_text(text)


def _gradients(model: Any, subject: PartSubject) -> dict[str, Tensor]:
    tokens = subject.tokens(2, 8)
    torch.manual_seed(0)
    model.train()(tokens, tokens.roll(-1, 1))[1].backward()
    found: dict[str, Any] = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    return {name: grad.full_tensor() if hasattr(grad, "full_tensor") else grad for name, grad in found.items()}
