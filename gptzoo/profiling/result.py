"""The result of a profile, as JSON. `gptzoo schema profile` prints its JSON Schema."""

from __future__ import annotations

from typing import Any, Literal

from gptzoo.strict_model import StrictModel

Phase = Literal["forward", "backward", "optimizer", "data", "synchronisation", "idle", "other"]


class WorkResult(StrictModel):
    """The time and the work of a part of one training step."""

    seconds: float
    """Seconds per step, measured with the profiler on: the time of the main thread, or of a GPU."""
    share: float
    """Part of the time of a step."""
    flops: int
    """FLOPs per step of matrix products, convolutions and fused attention. Recomputed products count."""
    bytes: int | None
    """Bytes per step that its operations read and write, if no cache has them. Null: compiled code, whose fused
    operations are not counted."""
    roofline: float | None
    """Least seconds that its operations need at the limits of this machine, as part of `seconds`. Null: no work is
    counted. Above 1, data comes from a cache."""


class RowResult(WorkResult):
    """One component of the model, or another part of a training step, in one phase."""

    component: str
    """Component as `KIND:NAME`, or a name such as `head`. `other` and `autograd` are time between operations."""
    phase: Phase
    """Phase of the step."""


class LimitsResult(StrictModel):
    """The limits of the machine, measured before the profile."""

    flops_per_second: dict[str, float]
    """Highest rate of large matrix products, by dtype."""
    bytes_per_second: float
    """Rate of a large copy, reads and writes together."""


class ProfileResult(StrictModel):
    """A profile of the training steps of one run. Times and work are per step."""

    format_version: Literal[1] = 1
    """Version of this format. It changes if a field is removed or gets another meaning."""
    run: str
    """Name of the run."""
    device: str
    """Device with its model name, or with its number of threads on a CPU."""
    time_of: Literal["host", "device"]
    """Clock of the rows: the main thread, or a GPU, whose time without work is `idle`. On a GPU whose kernels the
    profiler cannot record, it is the main thread."""
    precision: str
    """Precision of the run: fp32, tf32, bf16 or fp16."""
    compiled: bool
    """True if blocks are compiled. Their components are then one row."""
    steps: int
    """Number of profiled steps."""
    batch_size: int
    """Samples of a step."""
    micro_batch_size: int
    """Samples of a micro-batch."""
    tokens_per_sample: int
    """Tokens of a sample."""
    unprofiled_seconds: float
    """Seconds of a step without the profiler, before and after the profiled steps."""
    overhead: float
    """Time of a profiled step as a multiple of an unprofiled one."""
    step: WorkResult
    """The whole step."""
    phases: dict[Phase, WorkResult]
    """Sums of the rows by phase."""
    rows: tuple[RowResult, ...]
    """All rows, the longest first. Their seconds add up to those of the step."""
    host_waits: float
    """Number of times per step that the host waits for a GPU."""
    host_wait_seconds: float
    """Seconds per step that the host waits for a GPU."""
    limits: LimitsResult
    """Limits of the machine."""
    environment: dict[str, Any]
    """Software and hardware."""
