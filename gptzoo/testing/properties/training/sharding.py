"""Sharding: training on two ranks, with DDP, FSDP2 or tensor parallelism, gives the gradients of one process."""

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
from gptzoo.model.stack import Stack
from gptzoo.spec.run import ParallelSpec
from gptzoo.testing.compare import TOLERANCE, relative_difference
from gptzoo.testing.component_under_test import ModelPartUnderTest
from gptzoo.testing.verdict import Failed, Skipped
from gptzoo.training.distributed.parallelize import parallelize
from gptzoo.training.distributed.ranks import Ranks
from gptzoo.utils.forking import NO_AUTOGRAD, autograd_works

_WORLD_SIZE = 2
_TIMEOUT_SECONDS = 120

ComputeGradients = Callable[[ModelPartUnderTest], dict[str, Tensor]]  # runs on every rank


def check_sharding(subject: ModelPartUnderTest) -> None:
    """Check that DDP and FSDP2 (`fully_shard` on each block) give the same gradients on two gloo ranks as one process.

    DDP looks for parameters without a gradient only if a part sets `may_skip_parameters`.
    """
    _check_gradients(subject, "with DDP on two ranks", _ddp_gradients)
    _check_gradients(subject, "with FSDP2 on two ranks", _fsdp_gradients)


def check_tensor_parallel(subject: ModelPartUnderTest) -> None:
    """Check that tensor parallelism by the part's plan gives the same gradients on two gloo ranks as on one process."""
    _check_gradients(subject, "with tensor parallelism on two ranks", _tensor_parallel_gradients)


def _check_gradients(subject: ModelPartUnderTest, setting: str, compute: ComputeGradients) -> None:
    if "fork" not in torch.multiprocessing.get_all_start_methods() or not torch.distributed.is_gloo_available():
        raise Skipped("needs gloo and the start method fork")
    model = subject.model(dtype=torch.float64)
    _training_step(model, subject)
    expected = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    with tempfile.TemporaryDirectory() as folder:
        gradients = _run_two_ranks(subject, setting, compute, Path(folder))
    for name, gradient in expected.items():
        if name not in gradients:
            raise Failed(f"{setting}, no gradient reaches {name}")
        if (difference := relative_difference(gradients[name], gradient).max()) > TOLERANCE:
            raise Failed(f"{setting}, the gradient of {name} differs by {difference:.2g}")


def _run_two_ranks(
    subject: ModelPartUnderTest, setting: str, compute: ComputeGradients, folder: Path
) -> dict[str, Tensor]:
    """Run `compute` on two ranks and return its result on rank 0. The ranks exchange files in `folder`."""
    # Forked, not spawned: a component from a test or from a --plugin file could not be imported again.
    context: Any = torch.multiprocessing.get_context("fork")
    processes = [
        context.Process(target=_run_rank, args=(rank, subject, compute, folder), daemon=True)
        for rank in range(_WORLD_SIZE)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(_TIMEOUT_SECONDS)
    timed_out = [process for process in processes if process.is_alive()]
    for process in timed_out:
        process.kill()
    if reasons := sorted(folder.glob("refused-*")):
        raise Skipped(reasons[0].read_text())
    if errors := sorted(folder.glob("error-*")):
        raise Failed(f"{setting}, {errors[0].read_text()}")
    if timed_out:
        raise Failed(
            f"{setting}, a training step did not end within {_TIMEOUT_SECONDS} s; every rank must call the same modules"
        )
    if not (folder / "gradients").exists():
        raise Failed(f"{setting}, a process ended with exit code {processes[0].exitcode}")
    return torch.load(folder / "gradients", weights_only=True)


def _run_rank(rank: int, subject: ModelPartUnderTest, compute: ComputeGradients, folder: Path) -> None:
    """Run one rank. Both ranks have the same batch, so the mean of their gradients is that of one process."""
    torch.set_num_threads(1)
    with contextlib.redirect_stderr(io.StringIO()):
        try:
            if not autograd_works():
                raise InputError(NO_AUTOGRAD)
            store = torch.distributed.FileStore(str(folder / "store"), _WORLD_SIZE)
            torch.distributed.init_process_group("gloo", store=store, rank=rank, world_size=_WORLD_SIZE)
            gradients = compute(subject)
            if rank == 0:
                torch.save(gradients, folder / "gradients")
            torch.distributed.barrier()
            torch.distributed.destroy_process_group()
        except InputError as error:
            (folder / f"refused-{rank}").write_text(str(error))
        except BaseException as error:
            last = traceback.extract_tb(error.__traceback__)[-1]
            text = f"it raises {type(error).__name__}: {error}\n  at {last.filename}:{last.lineno}: {last.line}"
            (folder / f"error-{rank}").write_text(text)


def _ddp_gradients(subject: ModelPartUnderTest) -> dict[str, Tensor]:
    model, ranks = subject.model(dtype=torch.float64), Ranks(torch.distributed.get_rank(), _WORLD_SIZE)
    parallelized = parallelize(model, ParallelSpec(replicate=_WORLD_SIZE), ranks, torch.device("cpu"))
    with parallelized.gradient_sync(last=True):
        _training_step(model, subject, parallelized.forward)
    return {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


def _fsdp_gradients(subject: ModelPartUnderTest) -> dict[str, Tensor]:
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    mesh = init_device_mesh("cpu", (_WORLD_SIZE,))
    model = subject.model(dtype=torch.float64)
    for block in model.blocks:
        fully_shard(block, mesh=mesh)
    fully_shard(model, mesh=mesh)
    _training_step(model, subject)
    return {name: full_tensor(p.grad) for name, p in model.named_parameters() if p.grad is not None}


def _tensor_parallel_gradients(subject: ModelPartUnderTest) -> dict[str, Tensor]:
    from torch.distributed.device_mesh import init_device_mesh

    from gptzoo.training.distributed.tensor_parallel import apply_tensor_parallel

    model = subject.model(dtype=torch.float64)
    parallel = apply_tensor_parallel(model, init_device_mesh("cpu", (_WORLD_SIZE,)), torch.device("cpu"))
    _training_step(model, subject)
    parallel.sync_gradients()
    gradients = {name: full_tensor(p.grad) for name, p in parallel.full_parameters.items() if p.grad is not None}
    return {
        name: reorder_rows(parallel.row_orders, name, gradient, inverse=True) for name, gradient in gradients.items()
    }


def _training_step(model: Stack, subject: ModelPartUnderTest, wrapped: Callable[..., Any] | None = None) -> None:
    """Compute gradients. `wrapped` is the model inside of DDP."""
    tokens = subject.tokens(2, 8)
    model.train()
    torch.manual_seed(0)
    (wrapped or model)(tokens, tokens.roll(-1, 1))[1].backward()
