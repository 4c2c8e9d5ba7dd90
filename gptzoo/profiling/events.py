"""The events of a profile, as plain records."""

from __future__ import annotations

from dataclasses import dataclass

from torch.autograd import DeviceType
from torch.profiler import profile

_MODE = "PythonDispatchMode"  # around each operation that is counted; a scope may begin inside and end outside it


@dataclass(frozen=True)
class Event:
    """One event: an operation, a scope or a call of the CUDA runtime on the host, or a kernel on the device."""

    name: str
    start: int  # nanoseconds
    end: int
    thread: int = 0
    sequence: int = -1  # number of the autograd node that a forward operation creates, or that a backward one executes
    forward_thread: int = 0  # of a backward operation: the thread of its forward operation
    correlation: int = 0
    linked: int = 0  # of a kernel or runtime call: correlation of the operation that launched it
    on_device: bool = False


def read_events(profiler: profile) -> list[Event]:
    """Return the events of a finished profile, without the copies of scopes on the device."""
    recorded = profiler.profiler
    assert recorded is not None
    assert recorded.kineto_results is not None
    events = []
    for event in recorded.kineto_results.events():
        on_device = event.device_type() != DeviceType.CPU
        if event.name() == _MODE or (on_device and event.is_user_annotation()):
            continue
        events.append(
            Event(
                name=event.name(),
                start=event.start_ns(),
                end=event.start_ns() + event.duration_ns(),
                thread=event.start_thread_id(),
                sequence=event.sequence_nr(),
                forward_thread=event.fwd_thread_id(),
                correlation=event.correlation_id(),
                linked=event.linked_correlation_id(),
                on_device=on_device,
            )
        )
    return events
