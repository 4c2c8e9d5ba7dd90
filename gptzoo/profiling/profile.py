"""`profile`: measure the training steps of a run by component."""

from __future__ import annotations

import contextlib
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch.profiler import ProfilerActivity, record_function, supported_activities
from torch.profiler import profile as torch_profile

from gptzoo.checkpoint.model_folder import require_empty_folder
from gptzoo.errors import InputError
from gptzoo.profiling.attribution import WINDOW, Attribution, attribute
from gptzoo.profiling.events import read_events
from gptzoo.profiling.machine_limits import copy_rate, product_rate
from gptzoo.profiling.operations import CountOperations, Operation
from gptzoo.profiling.result import LimitsResult, ProfileResult
from gptzoo.profiling.scopes import Cost, Scopes, installed_scopes
from gptzoo.profiling.table import format_table
from gptzoo.profiling.work import result_rows, step_work
from gptzoo.spec.files import load_run_spec
from gptzoo.spec.run import RunSpec
from gptzoo.training.distributed.process_group import process_group, rank_device
from gptzoo.training.hardware.device import (
    describe_device,
    float32_matmul_precision,
    preserve_rng_state,
    synchronize,
)
from gptzoo.training.run.resume import start_or_resume
from gptzoo.training.run.run_folder import RunFolder
from gptzoo.training.run.run_length import RunLength
from gptzoo.training.run.run_view import RunView
from gptzoo.training.setup import Setup
from gptzoo.training.tracking.hook_caller import HookCaller
from gptzoo.training.tracking.observers import RunObservers, Trackers
from gptzoo.training.tracking.progress import SilentProgress
from gptzoo.training.trainer import Trainer
from gptzoo.utils.atomic import new_folder, write_json, write_text

_WARMUP = 3  # steps before any is timed; compilation happens in the first
TRACE, RESULT, TABLE = "trace.json", "profile.json", "profile.txt"


def profile(
    spec: RunSpec | str | Path | Mapping[str, Any],
    *,
    steps: int = 5,
    out: str | Path | None = None,
    device: str | None = None,
    allow_oversize: bool = False,
) -> ProfileResult:
    """Train a few steps of a run and return their time, FLOPs and bytes by component. No run folder is written.

    steps: number of profiled steps. About three times as many are trained, to compare with steps without the profiler.
    out: folder to write, which must not exist or be empty: `trace.json` for chrome://tracing and ui.perfetto.dev,
        `profile.json` with the result and `profile.txt` with its table.
    device: device in place of the spec's.
    allow_oversize: start even if the run needs more memory than the machine or the device has.

    Raises SpecError, DataError and FolderError for wrong input, and InputError if torchrun has started several
    processes.
    """
    if steps < 1:
        raise InputError(f"steps: expected at least 1, got {steps}")
    if not isinstance(spec, RunSpec):
        spec = load_run_spec(spec)
    changes: dict[str, Any] = {"trackers": ()} if device is None else {"trackers": (), "device": device}
    spec = spec.model_copy(update=changes)
    with (
        process_group(spec) as ranks,
        preserve_rng_state(rank_device(spec.device)),
        contextlib.ExitStack() as stack,
    ):
        if ranks.size > 1:
            raise ranks.as_collective(InputError("profile: one process is profiled. Start it without torchrun"))
        written = None
        if out is not None:  # first, so that a path that cannot be written is reported before the measurement
            require_empty_folder(Path(out))
            written = stack.enter_context(new_folder(Path(out)))
        temporary = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        trainer = stack.enter_context(_trainer(spec, temporary, steps, allow_oversize=allow_oversize))
        measured = _measure(trainer, steps)
        result = _result(trainer, steps, measured)
        if written is not None:
            _write(written, measured.recorded, result)
    return result


@dataclass(frozen=True)
class _Measured:
    recorded: torch_profile
    unprofiled_seconds: float  # of one step
    attribution: Attribution
    operations: Mapping[Cost, Sequence[Operation]]  # of one step
    limits: LimitsResult


@contextlib.contextmanager
def _trainer(spec: RunSpec, folder: Path, steps: int, *, allow_oversize: bool) -> Iterator[Trainer]:
    """Yield the trainer of a run in a temporary folder, which trains exactly as `train` does."""
    run_folder = RunFolder(folder)
    setup = Setup(spec, run_folder, allow_oversize=allow_oversize)
    with float32_matmul_precision(setup.precision):
        start = start_or_resume(setup)
        n_steps = max(start.n_steps, _WARMUP + 2 + 3 * steps)  # a short run may end before the profile
        start = replace(start, n_steps=n_steps, schedule=setup.spec.schedule.build(n_steps))
        view = RunView(setup.spec, folder, n_steps, start.resume_step, str(setup.device))
        hooks = HookCaller(view, setup.model, lambda message: None)  # not called: only steps are trained
        observers = RunObservers(Trackers((), lambda message: None), hooks, setup.ranks, contextlib.nullcontext)
        run_length = RunLength(start.train_state, n_steps, None, None)
        yield Trainer(setup, start, run_length, SilentProgress(), observers)


def _measure(trainer: Trainer, steps: int) -> _Measured:
    with trainer.prefetch_batches() as prefetcher:

        def train(n: int) -> None:
            for _ in range(n):
                trainer.train_one_step(prefetcher)
            synchronize(trainer.device)

        train(_WARMUP)
        with _scopes(trainer, prefetcher) as scopes:
            operations = _count(scopes, train)
            _record(scopes, trainer.device, lambda: train(1))  # starting the profiler on a GPU takes long
        before = _seconds(train, steps)
        with _scopes(trainer, prefetcher) as scopes:
            attribution, recorded = _record(scopes, trainer.device, lambda: train(steps))
        after = _seconds(train, steps)
    dtypes = {o.dtype for of_row in operations.values() for o in of_row if o.dtype is not None}
    limits = LimitsResult(
        flops_per_second={
            str(dtype).removeprefix("torch."): product_rate(trainer.device, dtype) for dtype in sorted(dtypes, key=str)
        },
        bytes_per_second=copy_rate(trainer.device),
    )
    return _Measured(recorded, (before + after) / (2 * steps), attribution, operations, limits)


@contextlib.contextmanager
def _scopes(trainer: Trainer, prefetcher: object) -> Iterator[Scopes]:
    with installed_scopes(trainer) as scopes:
        scopes.wrap(prefetcher, "get", "wait for the next batch", Cost("next batch", "data"))
        yield scopes


def _seconds(train: Callable[[int], None], steps: int) -> float:
    started = time.perf_counter()
    train(steps)
    return time.perf_counter() - started


def _record(scopes: Scopes, device: torch.device, call: Callable[[], object]) -> tuple[Attribution, torch_profile]:
    """Call a function in the profiler and attribute its time."""
    activities = [ProfilerActivity.CPU]
    if device.type == "cuda" and ProfilerActivity.CUDA in supported_activities():
        activities.append(ProfilerActivity.CUDA)
    with torch_profile(activities=activities) as recorded, record_function(WINDOW):
        call()
    return attribute(read_events(recorded), scopes.costs), recorded


def _count(scopes: Scopes, train: Callable[[int], None]) -> dict[Cost, list[Operation]]:
    """Train one step whose operations are counted, and return them by row. Its time does not count.

    Compiled blocks run eagerly in this step, because the operations inside compiled code cannot be seen.
    """
    with torch.compiler.set_stance("force_eager"), CountOperations() as counter:
        attribution, _ = _record(scopes, torch.device("cpu"), lambda: train(1))
    operations: dict[Cost, list[Operation]] = {}
    for index, cost in attribution.operations.items():
        operations.setdefault(cost, []).append(counter.operations[index])
    return operations


def _result(trainer: Trainer, steps: int, measured: _Measured) -> ProfileResult:
    spec, attribution = trainer.spec, measured.attribution
    rows = result_rows(attribution, measured.operations, measured.limits, steps)
    whole, phases = step_work(rows)
    return ProfileResult(
        run=spec.name,
        device=describe_device(trainer.device),
        time_of="device" if attribution.of_device else "host",
        precision=trainer.precision,
        compiled=spec.compile,
        steps=steps,
        batch_size=spec.batch_size,
        micro_batch_size=trainer.micro_batch_size,
        tokens_per_sample=spec.tokens_per_sample,
        unprofiled_seconds=measured.unprofiled_seconds,
        overhead=attribution.window / 1e9 / steps / measured.unprofiled_seconds,
        step=whole,
        phases=phases,
        rows=rows,
        host_waits=attribution.waits / steps,
        host_wait_seconds=attribution.wait_nanoseconds / 1e9 / steps,
        limits=measured.limits,
        environment=trainer.folder.read_environment(),
    )


def _write(folder: Path, recorded: torch_profile, result: ProfileResult) -> None:
    recorded.export_chrome_trace(str(folder / TRACE))
    write_json(folder / RESULT, result.model_dump(mode="json"))
    write_text(folder / TABLE, format_table(result) + "\n")
